"""The dry run: what it refuses, what it counts, and that it leaves no trace."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.grpo_guard import GRPOGuard
from limner.build import Assembly, assemble
from limner.cli import main
from limner.core.errors import UserError
from limner.core.rng import Rng
from limner.diffusion.dynamics import CPS, DanceSDE, FlowSDE
from limner.models.sd3.adapter import SD3
from limner.policies.denoising import Sampler
from limner.recipes.yaml import to_yaml
from limner.report.metrics import Metrics, read
from limner.report.progress import Progress
from limner.rollout.collect import collect
from limner.training.config import Full, Optimizer, RunConfig
from limner.training.loop import Hooks, train
from limner.training.preflight import preflight, rescore
from limner.training.state import State
from run.miniature import FLOW_GRPO, Miniature, differences

NARROW = {"algorithm": FlowGRPO(clip_low=1e-13, clip_high=1e-13), "sampler": Sampler(FlowSDE(), steps=4)}
"""A clip range of 1e-10 nats per element, at 64 elements: below what float32 can tell."""


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a network round differently in batches of another size, as on most processors, and on this one at times."""
    plain = SD3.predict
    monkeypatch.setattr(SD3, "predict", lambda self, x, *rest: plain(self, x, *rest) * (1 + 1e-7 * len(x)))


def test_a_clip_range_below_the_noise_is_refused(
    rounding: None, miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(miniature.config(tmp_path / "run", **NARROW)))
    assert main(["train", str(recipe)]) == 2
    printed = capsys.readouterr().err
    found = re.fullmatch(r"limner: the clip range (\S+) is below 3 noise floors \((\S+) nats per element.*\n", printed)
    assert found is not None, printed
    assert float(found[1]) == pytest.approx(1e-13 * 65_536 / 64, rel=0.01) and 1e-10 / 3 < float(found[2]) < 1e-6
    assert all(way in printed for way in ("clip_low", "clip_high", "float32", "--ratio-floor warn"))
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
    assert main(["train", str(recipe), "--ratio-floor", "warn"]) == 0
    note = capsys.readouterr().err.splitlines()[0]
    assert note.startswith("note: the clip range")
    page = (tmp_path / "run" / "report.html").read_text()
    assert note.removeprefix("note: ") in page
    assert main(["report", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.html").read_text() == page


@pytest.mark.parametrize("dynamics", [FlowSDE(), DanceSDE(), CPS()], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_ratio_is_one(dynamics: FlowSDE | DanceSDE | CPS, guidance: float, miniature: Miniature) -> None:
    """Exactly in the shape of the rollout's batch, and within 1e-6 per element in any other.

    CPS's noise is proportional to the time it steps to: its step to 0.001 is left out, for there float32 cannot tell
    means apart to a millionth of it (1e-5 is measured), and the dry run says so.
    """
    window = 2 if isinstance(dynamics, CPS) else 0
    sampler = Sampler(dynamics, steps=4, guidance=guidance, window=window)
    config = miniature.config(Path(), algorithm=FlowGRPO(), sampler=sampler)
    parts = assemble(config).parts
    prompts = parts.studio.prompts[:2]
    rollout = collect(
        parts.studio.policy, parts.studio.cache, prompts, 4, rng=Rng(("test",)), step=0, record=True, micro_batch=8
    )
    assert torch.equal(rescore(parts.actors.policy, rollout, 8), torch.zeros(16 if window else 24))
    for size in (1, 3, 24):
        assert rescore(parts.actors.policy, rollout, size).abs().max() / 64 < 1e-6


def test_the_floor_is_that_of_the_ratio_which_is_clipped(rounding: None, miniature: Miniature) -> None:
    """GRPO-Guard clips std times the log-ratio: with little noise its floor is so much lower than Flow-GRPO's."""
    guard, plain = (
        preflight(config, assemble(config).parts).floor or 0.0
        for algorithm in (GRPOGuard(), FlowGRPO())
        for config in [miniature.config(Path(), algorithm=algorithm, sampler=Sampler(FlowSDE(0.05), steps=4))]
    )
    assert 0 < guard < 0.2 * plain


@pytest.mark.parametrize("name", ["nft", "grpo", "full"])
def test_it_leaves_no_trace(name: str, miniature: Miniature, tmp_path: Path) -> None:
    """Weights, optimizer, gradients: and a training after it is bit by bit the one without it."""
    config = miniature.config(tmp_path, optimizer=Optimizer(lr=1e-2, ema=0.9), **FLOW_GRPO if name == "grpo" else {})
    if name == "full":
        config = replace(config, model=replace(config.model, train=Full()))
    without, after = assemble(config), assemble(config)
    before = kept(after)
    preflight(config, after.parts)
    assert differences(before, kept(after)) == []
    assert all(parameter.grad is None for parameter in after.parts.weights.parameters().values())
    states = [iterations(config, assembly, tmp_path / str(i)) for i, assembly in enumerate((without, after))]
    assert differences(*states) == [] and differences(before, states[0]) != []


def kept(assembly: Assembly) -> dict[str, object]:
    """Return a copy of all that a run would keep."""
    parts = assembly.parts
    assert parts.ema is not None
    everything = {"weights": parts.weights.state(), "stepper": parts.stepper.state(), "ema": parts.ema.state()}
    return torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, everything)


def iterations(config: RunConfig, assembly: Assembly, folder: Path) -> dict[str, object]:
    metrics = Metrics(folder)
    hooks = Hooks(Progress("test", config.steps, quiet=True), metrics, lambda state: None, lambda state: {})
    train(config, assembly.parts, State(), hooks)
    metrics.close()
    measured = [{k: v for k, v in line.items() if not k.startswith("seconds/")} for line in read(folder)]
    return {**kept(assembly), "metrics": measured}


def test_it_counts_the_work(miniature: Miniature) -> None:
    """For 6 prompts x 4 samples in passes of 10: it tries 2 prompts, and tells of all."""
    config = miniature.config(Path(), prompts_per_step=6, micro_batch=10, steps=50, **FLOW_GRPO)
    found = preflight(config, assemble(config).parts)
    assert (found.samples, found.decisions) == (24, 24 * 3)
    assert found.clip == pytest.approx((0.1024, 0.1024)) and found.floor is not None and found.floor < 1e-6
    assert list(found.rewards) == ["redness"] and len(found.rewards["redness"]) == 2
    assert found.seconds.keys() == {"rollout", "reward", "update"} and min(found.seconds.values()) > 0
    assert found.memory.peak > 50 and found.notices == ()


def test_a_group_larger_than_a_pass(miniature: Miniature) -> None:
    config = miniature.config(Path(), group_size=5, micro_batch=2)
    found = preflight(config, assemble(config).parts)
    assert (found.samples, found.decisions, found.floor, found.clip) == (10, 20, None, None)


def test_a_ratio_that_is_no_number_is_refused(miniature: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    config = miniature.config(Path(), **FLOW_GRPO)
    assembly = assemble(config)
    monkeypatch.setattr("limner.training.preflight.rescore", lambda *_: torch.full((2,), torch.nan))
    with pytest.raises(UserError, match="not finite"):
        preflight(config, assembly.parts)
