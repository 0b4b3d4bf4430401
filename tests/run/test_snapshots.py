"""Snapshots show the same prompts at the same seeds as training goes on, and change nothing that is learned."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import limner
from limner import results
from limner.build import drawer
from limner.core.media import Images
from limner.core.types import Prompt
from limner.report.metrics import read
from limner.training.config import Evaluation, Optimizer
from limner.training.snapshots import PLACE, Snapshots, sheet
from run.miniature import FLOW_GRPO, Miniature, differences, last_checkpoint


def levels(sheet: Image.Image) -> np.ndarray:
    return np.asarray(sheet.convert("RGB"), dtype=np.int64)


def apart(one: Image.Image, other: np.ndarray) -> int:
    """Return how many levels two sheets are apart at most: passes of other sizes round otherwise."""
    return int(np.abs(levels(one) - other).max())


@pytest.mark.parametrize("heldout", [False, True])
def test_they_are_of_the_base_and_of_what_it_becomes(heldout: bool, miniature: Miniature, tmp_path: Path) -> None:
    """By the plain ODE, though the run's own sampler is stochastic, and by the average of the weights."""
    how = Snapshots(every=2, prompts=2, seeds=2)
    evaluation = Evaluation(str(miniature.prompts) if heldout else "", reward="jpeg_size", seeds=1)
    optimizer = Optimizer(lr=1e-2, ema=0.8)
    config = miniature.config(tmp_path / "with", steps=2, evaluation=evaluation, optimizer=optimizer, **FLOW_GRPO)
    run = limner.train(replace(config, snapshots=how), quiet=True)
    assert sorted(path.name for path in (run.folder / PLACE).iterdir()) == ["000000.png", "000002.png"]
    prompts = run.assembly.heldout if heldout else run.assembly.parts.studio.prompts
    assert len(prompts) == 3 and bool(run.assembly.heldout) == heldout
    plain = config.sampler.plain()
    base, last = (levels(Image.open(run.folder / PLACE / f"{i:06d}.png")) for i in (0, 2))
    drawn = sheet(how, drawer(run.assembly.parts, run.assembly.policy("reference", plain)), prompts, 3)
    assert apart(drawn, base) <= 1
    with run.averaged():
        drawn = sheet(how, drawer(run.assembly.parts, run.assembly.policy("policy", plain)), prompts, 3)
    assert apart(drawn, last) <= 1 < np.abs(base - last).max()
    events = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("samples")] == [0, 1]
    if heldout:
        return
    other = limner.train(replace(config, out=str(tmp_path / "without")), quiet=True)
    assert not (other.folder / "samples").exists()
    assert differences(last_checkpoint(run.folder)["weights"], last_checkpoint(other.folder)["weights"]) == []
    assert read(run.folder)[-1]["network_evaluations"] == read(other.folder)[-1]["network_evaluations"]


def test_the_dry_run_draws_one_and_tells_of_all(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sheets after 0, 2, 4 and 6 of 7 iterations, of 3 prompts, 2 seeds each, 4 steps each: 96 evaluations."""
    config = miniature.config(tmp_path / "run", steps=7, **FLOW_GRPO)
    without = limner.check(config)
    real = results.sheet

    def slow(*given: Any) -> Image.Image:
        time.sleep(0.3)
        return real(*given)

    monkeypatch.setattr(results, "sheet", slow)
    found = limner.check(replace(config, snapshots=Snapshots(every=2, seeds=2)))
    assert config.sampler.plain().steps == 4
    assert found.evaluations - without.evaluations == 4 * 3 * 2 * 4
    assert 4 * 0.3 < found.seconds["snapshots"] < 4 * 2.0 and "snapshots" not in without.seconds
    assert "snapshots" in found.estimate() and not (tmp_path / "run").exists()


def test_prompts_are_spread_and_seeds_are_the_same() -> None:
    asked: list[tuple[str, int]] = []

    def draw(prompts: Sequence[Prompt], seeds: Sequence[int]) -> Images:
        asked.extend((prompt.text, seed) for prompt, seed in zip(prompts, seeds, strict=True))
        assert len(prompts) <= 3
        return Images(torch.zeros(len(prompts), 3, 8, 8))

    prompts = [Prompt(str(i)) for i in range(10)]
    sheet(Snapshots(every=1, prompts=4, seeds=2), draw, prompts, 3)
    assert asked == [(text, seed) for text in ("0", "2", "5", "7") for seed in (0, 1)]
    asked.clear()
    sheet(Snapshots(every=1, prompts=4), draw, prompts[:2], 3)
    assert asked == [("0", 0), ("1", 0)]
