"""The words world as pretraining sees it, and as the OCR reward reads it."""

from __future__ import annotations

from importlib import util

import numpy as np
import pytest
import torch

from limner.core.media import Images
from limner.rewards.ocr import OCR
from limner.rewards.ocr.spelling import edit_distance
from limner.worlds.words.grammar import is_heldout, sample_word, to_prompt
from limner.worlds.words.render import render
from limner.worlds.words.world import Words

installed = pytest.mark.skipif(
    any(util.find_spec(name) is None for name in ("rapidocr", "onnxruntime")), reason="the extra `ocr` is not installed"
)


def media(pictures: list[np.ndarray]) -> Images:
    return Images(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255)


def test_a_pair() -> None:
    world = Words()
    for seed in range(60):
        picture, (clean, noisy) = world.pair(np.random.default_rng(seed), 0.0, 1.0)
        again, (alone,) = world.pair(np.random.default_rng(seed), 1.0)
        assert np.array_equal(picture, again) and noisy == alone, "a caption depends on its own share alone"
        rng = np.random.default_rng(seed)
        word = sample_word(rng)
        assert np.array_equal(picture, render(word, rng)) and clean.split('"')[1] == word
        asked = noisy.split('"')[1]
        assert asked != word and not is_heldout(word) and not is_heldout(asked)


@installed
def test_the_reward_reads_renders_of_both_splits() -> None:
    rng = np.random.default_rng(0)
    words = [sample_word(rng, split) for split in ("train", "heldout") for _ in range(20)]
    output = OCR()(media([render(word, rng) for word in words]), [to_prompt(word) for word in words])
    assert output.valid.all() and output.components["exact"].mean() >= 0.97


@installed
def test_the_reward_sees_a_wrong_letter() -> None:
    rng = np.random.default_rng(1)
    words = [sample_word(rng) for _ in range(12)]
    pictures = [render(word[:-1], rng) for word in words]
    output = OCR()(media(pictures), [to_prompt(word) for word in words])
    assert output.components["exact"].sum() == 0
    expected = [1 - edit_distance(word[:-1], word) / len(word) for word in words]
    assert output.score.tolist() == pytest.approx(expected)
