"""The independent judge reads fresh renders and disagrees with wrong captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from limner.core.errors import UserError
from limner.worlds.scenes import classifier
from limner.worlds.scenes.grammar import MIRRORED, RELATIONS, Scene, clauses, corrupt, parse, sample_scene
from limner.worlds.scenes.render import render


def test_agrees_with_renders_and_not_with_mutants() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, "heldout" if i % 2 else "train") for i in range(200)]
    images = np.stack([render(scene, rng) for scene in scenes])
    assert classifier.agrees_batch(images, scenes).mean() >= 0.97
    for turn in range(3):
        mutants = [corrupt(scene, rng, clauses(scene)[turn]) for scene in scenes]
        assert classifier.agrees_batch(images, mutants).mean() <= 0.02
    assert classifier.agrees(images[0], scenes[0]) == classifier.agrees_batch(images, scenes)[0]


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_relation_is_read_from_either_side(relation: str) -> None:
    rng = np.random.default_rng(1)
    scene = parse(f"a purple circle {relation} a green star")
    images = np.stack([render(scene, rng) for _ in range(20)])
    mirror = Scene("position", scene.items[::-1], MIRRORED[relation])
    wrong = Scene("position", scene.items, MIRRORED[relation])
    assert np.array_equal(classifier.agrees_batch(images, [scene] * 20), classifier.agrees_batch(images, [mirror] * 20))
    assert classifier.agrees_batch(images, [scene] * 20).mean() >= 0.9
    assert not classifier.agrees_batch(images, [wrong] * 20).any()


def test_an_open_scene_is_refused() -> None:
    with pytest.raises(UserError, match="full scene"):
        classifier.agrees(np.zeros((64, 64, 3), dtype=np.uint8), parse("a star"))


def test_training_repeats_and_starts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        classifier.train(seed=1, steps=3, batch=4, path=tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    first, second = (classifier.load_from(tmp_path / name).state_dict() for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_are_small() -> None:
    path = Path(classifier.__file__).with_name(classifier.WEIGHTS)
    assert path.stat().st_size <= 1_000_000
