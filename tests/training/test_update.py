"""An iteration: it does not depend on the size of a micro-batch, learns, and counts what it spends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import ReferenceType, ref

import pytest
import torch
from torch import Tensor

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.build import Assembly, assemble
from limner.core.types import Scored
from limner.diffusion.dynamics import FlowSDE
from limner.policies.denoising import Sampler
from limner.report.metrics import Metrics, read
from limner.report.progress import Progress
from limner.training.config import Full, Optimizer, Precision, RunConfig
from limner.training.loop import Hooks, train
from limner.training.source import Drawn
from limner.training.state import State
from run.miniature import FLOW_GRPO, Miniature

CHANGES: dict[str, dict[str, Any]] = {
    "nft": {"algorithm": DiffusionNFT(num_times=2, num_updates=2)},
    "grpo": {"algorithm": FlowGRPO(kl_weight=0.01, num_updates=3), "sampler": Sampler(FlowSDE(), steps=4)},
}


def trained(config: RunConfig, folder: Path, state: State | None = None) -> Assembly:
    """Return a run's parts after its iterations, without evaluation, checkpoints and report."""
    assembly = assemble(config)
    metrics = Metrics(folder)
    hooks = Hooks(Progress("test", config.steps, quiet=True), metrics, lambda state: None, lambda state: {})
    train(config, assembly.parts, state or State(), hooks)
    metrics.close()
    return assembly


def vector(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors.values()])


@pytest.mark.parametrize("train_all", [False, True], ids=["lora", "full"])
@pytest.mark.parametrize("name", CHANGES)
def test_the_micro_batch_does_not_matter(name: str, train_all: bool, miniature: Miniature, tmp_path: Path) -> None:
    """Of sampling, decoding, judging and learning: 8 samples and 16 or 24 decisions in passes of 3, 8 and 64."""
    config = miniature.config(tmp_path, steps=1, optimizer=Optimizer(lr=1e-3), **CHANGES[name])
    if train_all:
        config = replace(config, model=replace(config.model, train=Full()))
    start = vector(assemble(config).parts.weights.parameters())
    ends, lines = [], []
    for size in (3, 8, 64):
        assembly = trained(replace(config, micro_batch=size), tmp_path / str(size))
        ends.append(vector(assembly.parts.weights.parameters()))
        lines += read(tmp_path / str(size))
    for end, line in zip(ends[1:], lines[1:], strict=True):
        assert (end - ends[0]).norm() < 1e-5 * end.norm()
        assert (end - ends[0]).norm() < 1e-3 * (end - start).norm()
        for key in ("reward/mean", "loss", "grad_norm", "network_evaluations"):
            assert key not in line or line[key] == pytest.approx(lines[0][key], rel=1e-4), key


def test_the_same_seed_is_the_same_run(miniature: Miniature, tmp_path: Path) -> None:
    config = miniature.config(tmp_path, steps=2)
    one, two, other = (
        vector(trained(replace(config, seed=seed), tmp_path / str(i)).parts.weights.parameters())
        for i, seed in enumerate((0, 0, 1))
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_it_learns(miniature: Miniature, tmp_path: Path) -> None:
    """The left half gets redder: by more than the spread of the samples in ten iterations of each algorithm."""
    sizes = {"steps": 10, "prompts_per_step": 3, "group_size": 16, "micro_batch": 64}
    nft = {"algorithm": DiffusionNFT(num_times=3, kl_weight=0.0, decay="none")}
    for name, changes in {"nft": nft, "grpo": {**FLOW_GRPO, "algorithm": FlowGRPO()}}.items():
        config = miniature.config(tmp_path, optimizer=Optimizer(lr=1e-2), **sizes, **changes)
        trained(replace(config, model=replace(config.model, train=Full())), tmp_path / name)
        lines = read(tmp_path / name)
        gain = sum(line["reward/mean"] for line in lines[-2:]) / 2 - lines[0]["reward/mean"]
        assert gain > lines[0]["reward/std"], (name, [line["reward/mean"] for line in lines])


def test_float16_moves_the_weights_as_float32_does(miniature: Miniature, tmp_path: Path) -> None:
    """After one step of Adam, on gradients whose losses were scaled, weights have gone the same way."""
    moved = []
    for dtype in ("float32", "float16"):
        config = miniature.config(tmp_path, steps=1, precision=Precision(dtype), optimizer=Optimizer(lr=1e-2))
        start = {name: each.clone() for name, each in assemble(config).parts.weights.state()["policy"].items()}
        parts = trained(config, tmp_path / dtype).parts
        assert parts.stepper.num_skipped == 0 and (parts.stepper.scale is None) == (dtype == "float32")
        assert all(each.dtype == torch.float32 for each in parts.weights.parameters().values())
        moved.append(vector({name: each - start[name] for name, each in parts.weights.state()["policy"].items()}))
    assert torch.cosine_similarity(moved[0], moved[1], dim=0) > 0.9


def test_constant_groups_teach_nothing_and_cost_nothing(miniature: Miniature, tmp_path: Path) -> None:
    """The weights stay as they are, bit by bit, and no network evaluation is spent on the update."""
    config = miniature.config(tmp_path, "seeing_only_red", steps=2)
    start = vector(assemble(config).parts.weights.parameters())
    state = State()
    assembly = trained(config, tmp_path, state)
    assert torch.equal(vector(assembly.parts.weights.parameters()), start)
    assert assembly.parts.stepper.num_steps == 0 and state.evaluations == 2 * 8 * 4
    assert [line["constant"] for line in read(tmp_path)] == [2, 2]


def test_the_learning_rate_warms_up_over_optimizer_steps(miniature: Miniature, tmp_path: Path) -> None:
    """Four steps in two iterations: a quarter, a half, three quarters, all; the cosine would begin after them."""
    optimizer = Optimizer(lr=1e-3, warmup=4, schedule="cosine")
    algorithm = DiffusionNFT(num_times=2, num_updates=2)
    config = miniature.config(tmp_path, steps=4, optimizer=optimizer, algorithm=algorithm)
    assembly = trained(config, tmp_path)
    assert assembly.parts.stepper.num_steps == 8
    rates = [line["lr"] for line in read(tmp_path)]
    assert rates == pytest.approx([7.5e-4, 1e-3, 5e-4 * (1 + math.cos(math.pi / 2)), 0.0], abs=1e-9)


def test_the_old_policy_follows_at_a_distance(miniature: Miniature, tmp_path: Path) -> None:
    """old_i = d_i old + (1 - d_i) policy with d = 0, 0.2: after two iterations it is a known mixture."""
    config = miniature.config(tmp_path, steps=1, algorithm=DiffusionNFT(num_times=2, decay_rate=0.2))
    one = trained(config, tmp_path / "one").parts.weights
    two = trained(replace(config, steps=2), tmp_path / "two").parts.weights
    first, second = vector(one.parameters()), vector(two.parameters())
    assert torch.equal(vector(dict(one.old)), first) and not torch.equal(first, second)
    torch.testing.assert_close(vector(dict(two.old)), 0.2 * first + 0.8 * second, rtol=1e-6, atol=1e-9)


def test_a_state_survives_its_dictionary() -> None:
    state = State(iteration=3, failed=1, invalid=4, evaluations=50)
    assert State.from_dict(state.to_dict()) == state


@dataclass(frozen=True)
class Watched:
    """Draws, and sees what of the iterations before is still there."""

    paths: list[ReferenceType[Tensor]] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    draws: bool = True

    def scored(self, *asked: Any) -> Scored:
        self.alive.append(sum(path() is not None for path in self.paths))
        scored = Drawn().scored(*asked)
        self.paths.append(ref(scored.rollout.path.choices))
        return scored


def test_a_path_is_gone_before_the_next_is_drawn(miniature: Miniature, tmp_path: Path) -> None:
    """The largest thing of an iteration: two of them would not fit where one does."""
    source = Watched()
    config = miniature.config(tmp_path, steps=3, **FLOW_GRPO)
    assembly = assemble(config)
    metrics = Metrics(tmp_path)
    hooks = Hooks(Progress("test", 3, quiet=True), metrics, lambda state: None, lambda state: {})
    train(config, replace(assembly.parts, source=source), State(), hooks)
    metrics.close()
    assert source.alive == [0, 0, 0] and len(source.paths) == 3
