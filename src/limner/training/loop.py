"""The loop: roll out, score, assign advantage, update, report, checkpoint. Read this file first."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor

from limner.core.errors import RunError
from limner.core.protocols import (
    Actors,
    Algorithm,
    Context,
    DecisionProcess,
    ForwardProcess,
    OwnUpdate,
    Policy,
)
from limner.core.rng import Rng
from limner.core.shortage import needing
from limner.core.team import Team
from limner.core.types import Batch, Scored
from limner.engine.ema import Ema
from limner.engine.optim import Stepper
from limner.engine.weights import Weights
from limner.learning.credit import credited
from limner.learning.passes import optimizer_steps
from limner.learning.reliability import reliable_advantage
from limner.objectives.advantage import informative
from limner.rollout.everyone import everyones
from limner.rollout.score import FailureBudget
from limner.training.anchor import Anchor
from limner.training.config import RunConfig
from limner.training.deadline import Deadline
from limner.training.focus import even
from limner.training.source import Source, Studio
from limner.training.state import State


@dataclass(frozen=True)
class Parts:
    """What a run is made of: the composition root fills it, the loop uses it and names none of it."""

    team: Team
    algorithm: Algorithm
    actors: Actors[Policy]
    weights: Weights
    stepper: Stepper
    ema: Ema | None
    source: Source
    studio: Studio
    anchor: Anchor | None
    """Data whose ordinary loss is added to each optimizer step."""
    evaluations: Callable[[], int]
    """The number of network evaluations of this process so far: one sample through the network once."""


class Watcher(Protocol):
    """Who is told what happens, as it happens: a progress line."""

    def phase(self, name: str, part: float | None = None) -> None:
        """Hear what is being done, and which share of it is done."""
        ...

    def step(self, done: int, mean: float, spread: float) -> None:
        """Hear that so many iterations are done, and the mean and spread of the last one's rewards."""
        ...


class Log(Protocol):
    """What keeps the numbers of every iteration."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the numbers of iteration `step`."""
        ...


@dataclass(frozen=True)
class Hooks:
    """What happens around the iterations: what a person sees, what is measured, what is kept."""

    progress: Watcher
    metrics: Log
    checkpoint: Callable[[State], None]
    evaluate: Callable[[State], dict[str, float]]
    """Measure the present weights on held-out prompts; called every `config.evaluation.every` iterations."""
    began: float = field(default_factory=time.monotonic)
    """When this session began, by the monotonic clock."""
    snapshot: Callable[[State], None] = lambda state: None
    """Show what some prompts have become; called every `config.snapshots.every` iterations."""


def train(config: RunConfig, parts: Parts, state: State, hooks: Hooks) -> None:
    """Run the iterations that are left."""
    budget = FailureBudget(failed=state.failed)
    deadline = Deadline(3600 * config.max_hours, hooks.began, parts.team)
    while state.iteration < config.steps:
        clock, evaluations = Clock(hooks.progress.phase, parts.team), parts.evaluations()
        rng = Rng((config.seed, "train")).child(state.iteration)
        own = parts.source.scored(
            parts.studio, state.iteration, config.prompts_per_step, rng, clock, state.reward_memory
        )
        metrics = learn(config, parts, state, own, clock, budget)
        del own  # a path may take gigabytes: the next one is drawn without this one
        conclude(config, parts, state, hooks, metrics, clock, parts.evaluations() - evaluations, deadline)


Correct: TypeAlias = Callable[[Scored], tuple[Scored, Tensor | None, dict[str, float]]]
"""Makes of judged samples what is learned from, with the weight of each, and says how."""


def as_they_are(own: Scored) -> tuple[Scored, Tensor | None, dict[str, float]]:
    """Return samples that the present weights drew."""
    return own, None, {}


def learn(
    config: RunConfig,
    parts: Parts,
    state: State,
    own: Scored,
    clock: Clock,
    budget: FailureBudget,
    correct: Correct = as_they_are,
) -> dict[str, float]:
    """Learn from this process's judged samples; return what is to be known of all."""
    scored, mine = everyones(own, parts.team)
    budget.check(scored)
    state.failed = budget.failed
    state.invalid += int((~scored.valid).sum())
    rng = Rng((config.seed, "train")).child(state.iteration, "update")
    context = Context(rng, state.iteration, config.micro_batch, state.memory, parts.team, config.loss_mean)
    with clock("update"):
        own, weight, corrected = correct(own)
        advantage, believed = reliable_advantage(config.reliability, parts.algorithm, scored, context)
        batch = replace(credited(own, config.focus.spread(advantage[mine], own)), weight=weight)
        metrics = update(parts, batch, context) | believed | corrected | context.said
    metrics |= describe(scored) | {"constant": _constant_groups(scored)}
    if own.places is not None:
        metrics["focus/even"] = float(parts.team.sum(torch.tensor(even(own))))
    return metrics


def conclude(
    config: RunConfig,
    parts: Parts,
    state: State,
    hooks: Hooks,
    metrics: dict[str, float],
    clock: Clock,
    evaluations: int,
    deadline: Deadline,
) -> None:
    """Count an iteration, measure, log, and keep a checkpoint. Raises RunError if there is no time for another one."""
    state.iteration += 1
    busy = float(parts.team.sum_of_processes(torch.tensor(clock.processor_seconds, dtype=torch.float64)))
    state.spend(clock.seconds, busy, int(parts.team.sum(torch.tensor(evaluations))))
    metrics |= {f"seconds/{phase}": s for phase, s in clock.seconds.items()}
    metrics["network_evaluations"] = float(state.evaluations)
    if config.evaluation.every and state.iteration % config.evaluation.every == 0:
        metrics |= hooks.evaluate(state)
    if config.snapshots.every and state.iteration % config.snapshots.every == 0:
        hooks.snapshot(state)
    ends = state.iteration == config.steps
    stops = not ends and deadline.passed()
    if parts.team.leads:
        hooks.metrics.log(state.iteration - 1, metrics)
        hooks.progress.step(state.iteration, metrics["reward/mean"], metrics["reward/std"])
    if state.iteration % config.checkpoint_every == 0 or ends or stops:
        hooks.checkpoint(state)
    if stops:
        raise RunError(
            f"stopped after {state.iteration} of {config.steps} iterations, for another might end later than "
            f"max_hours {config.max_hours:g} says; a checkpoint stands: go on with --resume"
        )


def update(parts: Parts, batch: Batch, context: Context) -> dict[str, float]:
    """Take the algorithm's optimizer steps on this process's batch; return metrics, averaged over all decisions."""
    if parts.algorithm.needs.own_update:
        own, actors = cast(OwnUpdate, parts.algorithm), cast(Actors[DecisionProcess], parts.actors)
        metrics = own.update(actors, list(parts.weights.parameters().values()), batch, context)
        if parts.ema is not None:
            parts.ema.update()
        return metrics
    seen: dict[str, list[Tensor]] = defaultdict(list)  # read when all passes have been asked for
    norms: list[float] = []
    skipped = steps = 0
    for step in optimizer_steps(parts.algorithm, parts.actors, batch, context):
        for share in step.shares(float(parts.team.sum(torch.tensor(step.mass, dtype=torch.float64)))):
            parts.stepper.backward(share.loss)
            for name, value in share.metrics.items():
                seen[name].append(value)
        if parts.anchor is not None:
            policy, rng = cast(ForwardProcess, parts.actors.policy), context.rng.child("anchor", steps)
            for part in parts.anchor.losses(parts.studio, policy, rng):
                parts.stepper.backward(part)
                seen["anchor"].append(part.detach())
        steps += 1
        norm = parts.stepper.step()
        skipped += norm is None
        norms += [] if norm is None else [norm]
        if parts.ema is not None:
            parts.ema.update()
    if parts.algorithm.needs.follows:
        parts.weights.blend_old(parts.algorithm.needs.decay(context.step))
    sums = _summed({name: sum(torch.stack(values).tolist()) for name, values in seen.items()}, parts.team)
    weight, anchored = sums.pop("weight", 0.0), sums.pop("anchor", None)
    metrics = {name: total / weight for name, total in sums.items()} if weight else {}
    if norms:
        metrics["grad_norm"] = sum(norms) / len(norms)
    if steps and anchored is not None:
        metrics["anchor"] = anchored / steps
    return metrics | {"skipped": float(skipped), "lr": parts.stepper.lr_now()}


def _summed(sums: Mapping[str, float], team: Team) -> dict[str, float]:
    """Return the sums of all processes; one that had nothing to learn from may lack some."""
    names = list(dict.fromkeys(team.gather_objects(list(sums))))
    values = torch.tensor([sums.get(name, 0.0) for name in names], dtype=torch.float64)
    return dict(zip(names, team.sum(values).tolist(), strict=True))


def describe(scored: Scored) -> dict[str, float]:
    """Return the rewards of an iteration, by category of prompt too, and what was left out.

    Columns are as the judges gave them, terms as they are reported, and contributions what each gives to the sum.
    """
    reported = scored.reported
    total = reported[scored.valid]
    mean = total.mean()
    metrics = {
        "reward/mean": mean.item(),
        "reward/std": (total - mean).square().mean().sqrt().item(),
        "invalid": float((~scored.valid).sum()),
    }
    for name, column in scored.rewards.items():
        metrics[f"reward/{name}"] = column[column.isfinite()].mean().item()
    for name, term in scored.terms.items():
        value = term.value[scored.valid].mean().item()
        metrics |= {f"term/{name}": value, f"contribution/{name}": term.weight * value}
    rows = defaultdict(list)
    for i, prompt in enumerate(scored.rollout.prompt_of()):
        if prompt.category is not None and scored.valid[i]:
            rows[prompt.category].append(i)
    return metrics | {f"train/{name}": reported[i].mean().item() for name, i in sorted(rows.items())}


def _constant_groups(scored: Scored) -> float:
    """Return the number of groups without two different valid rewards, which teach relative algorithms nothing."""
    useful = informative(scored.total, scored.rollout.group, scored.valid)
    return float(len(scored.rollout.group.unique()) - len(scored.rollout.group[useful].unique()))


class Clock:
    """Name the phase that runs, and measure it."""

    def __init__(self, say: Callable[[str], None], team: Team) -> None:
        self.say, self.team = say, team
        self.seconds: dict[str, float] = {}
        self.processor_seconds = 0.0

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self.say(phase)
        start, busy = time.perf_counter(), time.process_time()
        with needing(phase):
            yield
            self.team.synchronize()
        self.seconds[phase] = time.perf_counter() - start
        self.processor_seconds += time.process_time() - busy
