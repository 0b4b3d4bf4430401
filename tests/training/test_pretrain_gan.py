"""Pretraining of a GAN: interrupted, and right in its pieces."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from torch.nn import functional

from limner import bases
from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.models.gan.adapter import GAN
from limner.models.gan.pretraining import GANPretraining
from limner.training import pretrain_gan as module
from limner.worlds.oracle.model import Oracle
from limner.worlds.scenes.reward import BASE, Scenes

FEW = {"num_pairs": 12, "teacher_steps": 2, "steps": 3, "batch": 4, "width": 16, "penalty_every": 2, "reading_steps": 1}


def run(folder: Path) -> None:
    bases.pretrain("scenes", folder, {"model": "gan", **FEW, "checkpoint_seconds": 0.0})


def test_interrupted_it_goes_on_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while the base is asked, and between the steps of discriminator and generator."""
    monkeypatch.setattr(module, "AT_ONCE", 5)
    run(tmp_path / "whole")
    for name, times in (("chain", 1), ("drawn", 1)):
        work, seen = getattr(module, name), itertools.count()

        def failing(*arguments: Any, work: Any = work, seen: Any = seen, times: int = times) -> Any:
            if next(seen) == times:
                raise KeyboardInterrupt
            return work(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, failing)
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / "parts")
    run(tmp_path / "parts")
    whole, parts = (torch.load(tmp_path / name / "gan.pt", weights_only=True) for name in ("whole", "parts"))
    for one, two in zip((whole, *whole["beside"]), (parts, *parts["beside"]), strict=True):
        assert one["step"] == two["step"] == 3
        assert all(torch.equal(a, b) for a, b in zip(one["average"], two["average"], strict=True))
    logged = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged if row["stage"] == "pairs"] == [5, 10, 12]
    base = tmp_path / "parts" / "pipeline"
    assert yaml.safe_load((base / "config.yaml").read_text())["steps"] == 3 and (base / "log.jsonl").exists()
    model = GAN.load(base)
    assert model.latent().shape == model.noise().shape == (8, 8, 8)
    assert model.decode(torch.zeros(1, 8, 8, 8)).pixels.shape == (1, 3, 64, 64)
    with pytest.raises(UserError, match="begun with width 16, not 32"):
        bases.pretrain("scenes", tmp_path / "parts", {"model": "gan", **FEW, "width": 32})


def test_what_is_shared_with_the_base_stays_and_the_generator_begins_as_it() -> None:
    """At first G(z, c) is z less the base's velocity at t = 1."""
    fresh = GANPretraining.build(Scenes().vocabulary, BASE, 16, 0)
    z, index = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1])
    prompts = [Prompt("a red star"), Prompt("two blue squares")]
    with torch.no_grad():
        begun = fresh.model.generate(z, fresh.model.encode(prompts), index)
        velocity = fresh.teacher.predict(z, torch.ones(3), fresh.teacher.encode(prompts), index)
    torch.testing.assert_close(begun, z - velocity)
    learns = {id(p) for network in fresh.model.networks.values() for p in network.parameters()}
    assert not learns & {id(p) for network in fresh.teacher.networks.values() for p in network.parameters()}


def test_the_base_is_asked_where_its_flow_leads(tmp_path: Path) -> None:
    """On o1, where data is N(0, I) and so z itself; what is in the folder is not asked again."""

    class Asked:
        z = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
        condition = Oracle.load("o1").encode([Prompt("anything")])
        caption = torch.zeros(6).long()

    config, kept = module.Duel(teacher_steps=40), torch.full((2, 2), 7.0)
    y = module.ask(Oracle.load("o1"), cast(Any, Asked), config, tmp_path, lambda row: None)
    torch.testing.assert_close(y, Asked.z, atol=5e-3, rtol=5e-3)
    torch.save({"y": kept}, tmp_path / "pairs.pt")
    again = module.ask(Oracle.load("o1"), cast(Any, Asked), config, tmp_path, lambda row: None)
    assert torch.equal(again[:2], kept) and torch.equal(again[2:], y[2:])
    assert torch.equal(torch.load(tmp_path / "pairs.pt", weights_only=True)["y"], again)


def test_what_is_mismatched_is_no_caption_of_its_picture() -> None:
    """By turns the altered caption and the next picture's; equal ones, by either, are told apart as such."""
    caption, altered = torch.tensor([0, 1, 2, 2, 3]), torch.tensor([9, 8, 2, 7, 6])
    nothing = torch.zeros(5)
    given = module.Given(nothing, caption, altered, nothing, nothing, torch.zeros(3, 5))
    said, changed = caption[:, None].double(), altered[:, None].double()
    others, theirs = module.mismatch(said, changed, given)
    assert others[:, 0].tolist() == [9, 2, 2, 3, 6]
    assert theirs.tolist() == [True, True, False, True, True]
    alike = replace(given, caption=torch.zeros(5).long(), altered=torch.zeros(5).long())
    again, none = module.mismatch(said, changed, alike)
    assert not none.any() and torch.equal(again, others)


class Linear:
    """A discriminator that is linear: D(x, c) = x1 + x . e(c)."""

    log_scale = torch.tensor(0.0)
    see = staticmethod(lambda x: (x[:, 0], x))
    read = staticmethod(lambda context: context)


WORDS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])


class Texts:
    context = staticmethod(lambda caption: WORDS[caption])


def said(row: torch.Tensor, text: int) -> float:
    return float(row[0] + row @ WORDS[text])


X, MADE = torch.tensor([[0.5, -0.25], [0.1, 0.2]]), torch.tensor([[-0.5, 0.3], [0.0, -2.0]])
NOISE = torch.tensor([[[0.1, 0.0], [0.0, 0.2]], [[0.3, 0.0], [-0.1, 0.0]], [[0.0, 0.4], [0.2, 0.1]]])
GIVEN = module.Given(X, torch.tensor([0, 1]), torch.tensor([2, 3]), X, X, NOISE)


def test_the_discriminator_is_told_of_mismatched_captions_as_of_samples() -> None:
    """By hand, of a linear one, whose contrast weighs nothing; data and samples are shown with noise of their own."""
    config = module.Duel(contrast=0.0, gradient_penalty=0.0, mismatched=0.25)
    loss, _ = module.judged(Linear(), MADE, GIVEN, cast(Any, Texts), 1, config)
    hinge = lambda scores: sum(max(0.0, 1 + s) for s in scores) / len(scores)  # noqa: E731
    x, made = X + NOISE[0], MADE + NOISE[1]
    real, false = hinge([-said(x[0], 0), -said(x[1], 1)]), hinge([said(made[0], 0), said(made[1], 1)])
    assert loss.item() == pytest.approx(real + 0.75 * false + 0.25 * hinge([said(x[0], 2), said(x[1], 0)]))


def test_the_penalty_is_the_squared_slope_at_data() -> None:
    """Of a linear one, found by differences; it is taken every `penalty_every` steps, and weighs so much more."""
    config = module.Duel(contrast=0.0, gradient_penalty=0.7, penalty_every=4, mismatched=0.0)
    (with_it, _), (without, _) = (
        module.judged(Linear(), MADE, GIVEN, cast(Any, Texts), step, config) for step in (8, 9)
    )
    squared = 0.0
    for row, text in ((X[0].double(), 0), (X[1].double(), 1)):
        for axis in torch.eye(2).double():
            up, down = (float(each[0] + each @ WORDS[text].double()) for each in (row + axis / 8, row - axis / 8))
            squared += ((up - down) * 4) ** 2 / 2
    assert (with_it - without).item() == pytest.approx(4 * 0.7 / 2 * squared, rel=1e-5)


def test_the_generator_is_praised_for_what_it_made_and_held_to_where_the_base_leads() -> None:
    """By hand: - E D(G(z, c), c) of what is shown with noise, w times the contrast, and the mean squared error."""
    loss, health = module.drawn(Linear(), MADE, GIVEN, cast(Any, Texts), module.Duel(contrast=0.5))
    made = MADE + NOISE[2]
    logits = [[float(functional.cosine_similarity(row, WORDS[k], 0)) for k in (0, 1)] for row in made]
    hard = [float(functional.cosine_similarity(made[i], WORDS[2 + i], 0)) for i in range(2)]
    found = 0.0
    for i in range(2):
        captions = sum(math.exp(each) for each in (*logits[i], hard[i]))
        pictures = sum(math.exp(logits[k][i]) for k in range(2))
        found -= (2 * logits[i][i] - math.log(captions) - math.log(pictures)) / 4
    assert health["made_contrast"] == pytest.approx(found, rel=1e-5)
    assert loss.item() == pytest.approx(0.5 * found - (said(made[0], 0) + said(made[1], 1)) / 2, rel=1e-5)
    squares = [(float(MADE[i, k]) - float(X[i, k])) ** 2 for i in range(2) for k in range(2)]
    assert module.imitated(MADE, X).item() == pytest.approx(sum(squares) / 4)
