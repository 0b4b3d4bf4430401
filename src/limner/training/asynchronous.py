"""The loop whose samples others draw: while this process learns, workers draw for the iterations to come.

Version v of the weights is what v iterations have made of them. The samples of iteration i are drawn by version
max(0, i - staleness), whichever worker draws them and however fast it is: the number of workers, and the end of one,
change nothing but time, and with staleness 0 this is the loop of `training/loop.py`, whose parts it is made of. Samples
of an earlier version are weighted as `learning/importance.py` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from torch import Tensor

from limner.cluster.place import join, require
from limner.cluster.pool import Asked, Lost, Pool, Shared
from limner.core.errors import RunError, UserError
from limner.core.media import Shown
from limner.core.protocols import DecisionProcess
from limner.core.rng import Rng
from limner.core.team import Team
from limner.core.tree import concatenate, tree_map
from limner.core.types import Prompt, Rollout, Scored, Tree
from limner.engine.weights import Weights
from limner.learning.importance import as_drawn_now
from limner.policies.denoising import Sampler
from limner.rollout.collect import collect
from limner.rollout.join import beside, joined
from limner.rollout.score import FailureBudget, judge, render
from limner.training.config import RunConfig
from limner.training.deadline import Deadline
from limner.training.loop import Clock, Hooks, Parts, conclude, learn
from limner.training.source import Studio, looked_at
from limner.training.state import State

NAME = "rollouts"


@dataclass(frozen=True)
class Order:
    """What a worker is to draw: its share of the groups of an iteration, by the weights of a version."""

    iteration: int
    version: int
    prompts: Sequence[Prompt]
    """Of the whole iteration."""
    part: int
    parts: int


@dataclass(frozen=True)
class Drawing:
    """What a worker drew, what it shows, and what that took; all of it is on the CPU."""

    rollout: Rollout
    seen: Shown
    evaluations: int
    processor_seconds: float


@dataclass
class Drawer:
    """What a worker holds: what of a run draws, and which version its weights are."""

    config: RunConfig
    studio: Studio
    weights: Weights
    evaluations: Callable[[], int]
    version: int = -1


def draw(drawer: Drawer, order: Order, weights: Shared) -> Drawing:
    """Draw, in a worker, what is ordered: ids and randomness are those of the loop in one process."""
    config, studio = drawer.config, drawer.studio
    seen: list[Shown] = []
    evaluations, busy = drawer.evaluations(), time.process_time()
    if drawer.version != order.version:
        drawer.weights.load_state(weights.read())
        drawer.version = order.version

    def show(sample: Tensor, prompts: Sequence[Prompt]) -> None:
        seen.append(render(sample, studio.decode, config.micro_batch))

    rollout = collect(
        studio.policy.at(order.iteration),
        studio.cache,
        order.prompts,
        config.group_size,
        rng=Rng((config.seed, "train")).child(order.iteration),
        step=order.iteration,
        record=studio.record,
        micro_batch=config.micro_batch,
        team=Team(rank=order.part, size=order.parts),
        drawn=show,
    )
    rollout = tree_map(Tensor.cpu, replace(rollout, version=order.version))
    return Drawing(rollout, concatenate(seen), drawer.evaluations() - evaluations, time.process_time() - busy)


@dataclass
class Line:
    """The orders that are out, by iteration, and the versions of the weights that are still to draw."""

    config: RunConfig
    parts: Parts
    pool: Pool
    behind: dict[int, Tree]
    orders: dict[int, list[Asked]] = field(default_factory=dict)
    shared: dict[int, Shared] = field(default_factory=dict)

    def order(self, iteration: int) -> None:
        """Order what can be drawn once the weights of `iteration` are there, and keep what later orders draw by."""
        staleness = self.config.rollouts.staleness
        self.behind[iteration] = tree_map(lambda each: each.cpu().clone(), self.parts.weights.state())
        for ahead in range(iteration, min(iteration + staleness + 1, self.config.steps)):
            if ahead not in self.orders:
                self.orders[ahead] = self._ordered(ahead, max(0, ahead - staleness))
        for kept in (self.behind, self.shared):
            for version in [each for each in kept if each <= iteration - staleness]:
                del kept[version]

    def drawn(self, iteration: int) -> list[Drawing]:
        """Wait for the samples of an iteration. Raises RunError if they cannot be had, or are too old."""
        try:
            found = [self.pool.answer(asked) for asked in self.orders.pop(iteration)]
        except Lost as lost:
            raise RunError(f"{lost}; the last checkpoint stands: go on with --resume") from lost
        late = iteration - min(drawing.rollout.version for drawing in found)
        if late > self.config.rollouts.staleness:
            raise RunError(f"samples of iteration {iteration} were drawn by weights of {late} iterations before")
        return found

    def _ordered(self, iteration: int, version: int) -> list[Asked]:
        studio, config = self.parts.studio, self.config
        if version not in self.shared:
            self.shared[version] = self.pool.share(self.behind[version])
        rows = studio.sampler.indices(iteration)[: config.prompts_per_step].tolist()
        prompts = [studio.prompts[i] for i in rows]
        parts = min(self.pool.place.workers, len(prompts))
        orders = (Order(iteration, version, prompts, part, parts) for part in range(parts))
        return [self.pool.ask(draw, order, self.shared[version]) for order in orders]


def train_asynchronously(config: RunConfig, parts: Parts, state: State, hooks: Hooks, pool: Pool) -> None:
    """Run the iterations that are left, their samples drawn by the workers of `pool`, which hold a `Drawer` each."""
    budget = FailureBudget(failed=state.failed)
    deadline = Deadline(3600 * config.max_hours, hooks.began, parts.team)
    line = Line(config, parts, pool, state.behind)
    while state.iteration < config.steps:
        clock, evaluations = Clock(hooks.progress.phase, parts.team), parts.evaluations()
        with clock("rollout"):
            line.order(state.iteration)
            found = line.drawn(state.iteration)
        with clock("reward"):
            own = _judged(config, parts, state, found)
        spent = sum(each.evaluations for each in found)
        clock.processor_seconds += sum(each.processor_seconds for each in found)
        del found
        metrics = learn(config, parts, state, own, clock, budget, partial(_weighted, config, parts, state.iteration))
        del own
        conclude(config, parts, state, hooks, metrics, clock, parts.evaluations() - evaluations + spent, deadline)


def require_able(config: RunConfig, team: Team) -> None:
    """Raise UserError if the run draws by workers, and there is no cluster for them, or several processes learn."""
    if not config.rollouts.by.workers:
        return
    if team.processes > 1:
        raise UserError(
            f"rollouts.by.workers draw for one process that learns, and there are {team.processes}: start one, without "
            "--nproc or torchrun"
        )
    require(config.rollouts.by, join(NAME), NAME)


def _judged(config: RunConfig, parts: Parts, state: State, found: Sequence[Drawing]) -> Scored:
    studio, sampler = parts.studio, config.sampler
    on_host = isinstance(sampler, Sampler) and sampler.keep == "host"
    rollout = beside(joined([each.rollout for each in found]), parts.team.device, on_host)
    seen = concatenate([each.seen for each in found])
    scored = judge(
        rollout, seen, studio.reward, studio.micro_batch, state.reward_memory, parts.team, step=state.iteration
    )
    return looked_at(studio, scored, seen.media)


def _weighted(
    config: RunConfig, parts: Parts, iteration: int, own: Scored
) -> tuple[Scored, Tensor | None, dict[str, float]]:
    """Return samples as the present weights would have recorded them, and their weights; None where these drew them."""
    late = iteration - own.rollout.version
    if not late:
        return own, None, {"staleness": 0.0}
    policy, most = cast(DecisionProcess, parts.actors.policy), config.rollouts.weight_max
    rollout, weight, health = as_drawn_now(own.rollout, policy, most, config.micro_batch)
    return replace(own, rollout=rollout), weight, {"staleness": float(late), **health}
