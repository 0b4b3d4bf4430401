"""The loop whose samples others draw, here in this process: its versions, its weights, and what is refused."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.reward_weighted import RewardWeighted
from limner.build import Assembly, assemble
from limner.cluster.place import Place
from limner.core.errors import UserError
from limner.core.types import Prompt, Rollout
from limner.diffusion.dynamics import FlowSDE
from limner.loops import drawer
from limner.policies.denoising import Sampler
from limner.policies.masked import MaskedSampler
from limner.policies.tokens import TokenSampler
from limner.recipes.yaml import to_yaml
from limner.report.metrics import Metrics, read
from limner.report.progress import Progress
from limner.rollout.join import joined
from limner.training.asynchronous import Drawer, Order, train_asynchronously
from limner.training.config import Optimizer, Rollouts, RunConfig
from limner.training.loop import Hooks, train
from limner.training.source import Pictures
from limner.training.state import State
from run.miniature import Miniature, differences

GRPO: dict[str, Any] = {
    "algorithm": FlowGRPO(kl_weight=0.01, num_updates=2),
    "sampler": Sampler(FlowSDE(), steps=4),
    "optimizer": Optimizer(lr=3e-3),
}


@dataclass(frozen=True)
class Known:
    thing: Any

    def read(self) -> Any:
        return self.thing


@dataclass
class Here:
    """Workers that are all in this process, and answer when they are asked; it remembers what was ordered."""

    place: Place
    workers: Sequence[Drawer]
    orders: list[Order] = field(default_factory=list)

    def ask(self, question: Callable[..., Any], order: Order, *given: Any) -> Any:
        self.orders.append(order)
        return question(self.workers[len(self.orders) % len(self.workers)], order, *given)

    def answer(self, asked: Any) -> Any:
        return asked

    def share(self, thing: Any) -> Known:
        return Known(deepcopy(thing))


def workers(config: RunConfig, count: int) -> Here:
    """So many workers, which are one drawer: it takes whatever weights it is told."""
    one = drawer(to_yaml(config))
    return Here(Place(workers=count), [one] * count)


def run(config: RunConfig, folder: Path, pool: Here | None = None, start: Any = None) -> tuple[Assembly, list[Any]]:
    """Return the parts of a run after its iterations, and what each iteration's checkpoint would keep."""
    assembly, state = assemble(replace(config, rollouts=Rollouts())), State()
    parts, kept = assembly.parts, []
    if start is not None:
        start = torch.load(io.BytesIO(start), weights_only=True)
        parts.weights.load_state(start["weights"])
        parts.stepper.load_state(start["stepper"])
        state = State.from_dict(start["state"])

    def keep(state: State) -> None:
        file = io.BytesIO()
        content = {"state": state.to_dict(), "weights": parts.weights.state(), "stepper": parts.stepper.state()}
        torch.save(content, file)
        kept.append(file.getvalue())

    metrics = Metrics(folder)
    hooks = Hooks(Progress("test", config.steps, quiet=True), metrics, keep, lambda state: {})
    if pool is None:
        train(config, parts, state, hooks)
    else:
        train_asynchronously(config, parts, state, hooks, pool)
    metrics.close()
    return assembly, kept


def vector(assembly: Assembly) -> Tensor:
    return torch.cat([each.detach().flatten().double() for each in assembly.parts.weights.parameters().values()])


@pytest.mark.parametrize("changes", [GRPO, {}], ids=["grpo", "nft"])
def test_without_staleness_it_is_the_other_loop(changes: dict[str, Any], miniature: Miniature, tmp_path: Path) -> None:
    """The same weights and log, to float error: two workers draw a group each, of which one process drew both."""
    config = miniature.config(tmp_path, steps=2, **changes)
    one, _ = run(config, tmp_path / "one")
    pool = workers(config, 2)
    start = torch.cat([each.flatten().double() for each in pool.workers[0].weights.state()["policy"].values()])
    two, _ = run(config, tmp_path / "two", pool)
    moved = float((vector(one) - start).norm())
    assert moved > 0 and float((vector(two) - vector(one)).norm()) < 1e-3 * moved
    for mine, theirs in zip(read(tmp_path / "one"), read(tmp_path / "two"), strict=True):
        assert theirs.pop("staleness") == 0
        assert mine.keys() == theirs.keys()
        for key in (key for key in mine if not key.startswith("seconds/")):
            assert theirs[key] == pytest.approx(mine[key], rel=1e-3, abs=1e-6), key
    assert [(order.iteration, order.version) for order in pool.orders] == [(i, i) for i in range(2) for _ in range(2)]


def test_samples_are_of_the_version_that_is_stated(miniature: Miniature, tmp_path: Path) -> None:
    """However many workers there are; and a run that stopped goes on with the weights that were still to draw."""
    config = miniature.config(tmp_path, steps=4, rollouts=Rollouts(Place(workers=1), 2), **GRPO)
    pool = workers(config, 1)
    first, kept = run(config, tmp_path / "one", pool)
    assert [(each.iteration, each.version) for each in pool.orders] == [(0, 0), (1, 0), (2, 0), (3, 1)]
    lines = read(tmp_path / "one")
    assert [line["staleness"] for line in lines] == [0, 1, 2, 2]
    assert "importance/effective" not in lines[0] and all(0 < line["importance/effective"] < 1 for line in lines[1:])
    state = torch.load(io.BytesIO(kept[1]), weights_only=True)["state"]
    assert sorted(state["behind"]) == [0, 1] and state["iteration"] == 2

    pool = Here(Place(workers=2), [replace(pool.workers[0], version=-1)] * 2)
    second, _ = run(config, tmp_path / "two", pool, kept[1])
    assert [(each.iteration, each.version) for each in pool.orders] == [(2, 0), (2, 0), (3, 1), (3, 1)]
    scale = float((vector(first) - _policy(kept[0])).norm())
    assert float((vector(second) - vector(first)).norm()) < 1e-3 * scale
    pool = Here(Place(workers=1), [replace(pool.workers[0], version=-1)])
    _, rest = run(config, tmp_path / "later", pool, kept[1])
    whole, parted = (torch.load(io.BytesIO(each[-1]), weights_only=True) for each in (kept, rest))
    assert not differences(whole, parted)


def _policy(kept: bytes) -> Tensor:
    """The trained weights of what a checkpoint would keep."""
    state = torch.load(io.BytesIO(kept), weights_only=True)["weights"]["policy"]
    return torch.cat([each.flatten().double() for each in state.values()])


def test_rollouts_join_as_they_were_drawn() -> None:
    def part(prompts: list[str], number: int) -> Rollout:
        count = len(prompts)
        row = torch.arange(count)
        condition = {"row": torch.cat([row + 10.0 * number, torch.tensor([99.0])])}
        asked = [Prompt(text) for text in prompts]
        return Rollout(asked, row + count * number, row, condition, row + 0.5, None, row + 7 * number, 3)

    whole = joined([part(["a", "b"], 0), part(["b"], 1)])
    assert [each.text for each in whole.prompt_of()] == ["a", "b", "b"] and whole.version == 3
    assert whole.condition["row"].tolist() == [0, 1, 10, 99] and whole.prompt_index.tolist() == [0, 1, 2]
    assert whole.id.tolist() == [0, 1, 7] and whole.sample.tolist() == [0.5, 1.5, 0.5]
    with pytest.raises(ValueError, match=r"weights \[3, 4\]"):
        joined([part(["a"], 0), replace(part(["a"], 1), version=4)])


ON, GIVEN = Place(workers=2), RewardWeighted(weight="reward")
LATE: dict[str, Any] = {"rollouts": Rollouts(ON, 1), "algorithm": FlowGRPO()}
REFUSED = [
    ({"rollouts": Rollouts(staleness=1)}, "staleness is that of workers"),
    ({"rollouts": Rollouts(ON), "overlap": True}, "overlap"),
    ({"rollouts": Rollouts(ON), "source": Pictures("scenes"), "algorithm": GIVEN}, "source Pictures does not"),
    ({"rollouts": Rollouts(ON, 1), "algorithm": DiffusionNFT()}, "DiffusionNFT learns from finished samples"),
    (LATE | {"sampler": TokenSampler(scored="unguided")}, "did not draw"),
    (LATE | {"sampler": MaskedSampler("confidence")}, "no probability"),
    (LATE | {"sampler": Sampler(FlowSDE(), steps=4, splits=(0, 1))}, "samples share"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_be_is_refused(changes: dict[str, Any], said: str, miniature: Miniature, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        miniature.config(tmp_path, **changes)


def test_a_cut_is_at_least_one() -> None:
    assert Rollouts(weight_max=math.inf).weight_max == math.inf
    with pytest.raises(UserError, match="weight_max must be at least 1"):
        Rollouts(weight_max=0.5)
