"""The dry run: one small real iteration without an optimizer step, before the first expensive minute.

It finds what would go wrong later: weights that are no numbers, a reward that cannot be called, for a prompt of any
kind, trained on or held out; a ratio that is not 1 before any update, a clip range below the noise of the arithmetic, a
run that will not fit into memory or patience. It says what would go wrong in silence: a judge that cannot tell samples
apart, or answers by chance.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.needs import RatioKind
from limner.core.protocols import Context, DecisionProcess
from limner.core.rng import Rng
from limner.core.shortage import needing
from limner.core.team import ALONE
from limner.core.tree import leaves, select
from limner.core.types import Batch, Decisions, Prompt, Rollout, Scored
from limner.data.prompts import read_prompts
from limner.data.sampler import PromptSampler
from limner.engine.memory import peak_memory_mib, total_memory_mib
from limner.engine.optim import MOMENT_BYTES
from limner.engine.shards import own
from limner.learning.passes import optimizer_steps
from limner.learning.ratio import log_ratio_of
from limner.report.text import count, duration
from limner.rollout.score import FailureBudget, render
from limner.training.config import RunConfig
from limner.training.discernment import Discernment, discern, level
from limner.training.focus import even
from limner.training.footprint import Footprint, footprint
from limner.training.kinds import Tally, kinds, tally
from limner.training.loop import Clock, Parts

FLOORS = 3
"""A clip range below this many noise floors is decided by rounding."""
AVERAGE = "ema"
"""What of an optimizer's settings is of weights, however they were updated."""
NONE_JUDGED = f"the reward judged none of the samples; a run stops after {FailureBudget.limit} iterations of that kind"


@dataclass(frozen=True)
class Preflight:
    """What the dry run found; seconds are estimates for the whole run."""

    prompts: Tally
    heldout: Tally
    comments: int
    """Lines of the prompt file that were left out."""
    samples: int
    decisions: int
    passes: int
    evaluations: int
    """Of the network, in the whole run."""
    seconds: dict[str, float]
    memory: Footprint
    rewards: dict[str, list[float]]
    judges: tuple[Discernment, ...]
    floor: float | None
    clip: tuple[float, float] | None
    notices: tuple[str, ...]

    def estimate(self) -> str:
        """Return in a line what the run will take."""
        phases = ", ".join(f"{name} {duration(value)}" for name, value in self.seconds.items())
        return (
            f"This will take about {duration(sum(self.seconds.values()))} ({phases}), "
            f"{count(self.evaluations)} network evaluations, and {self.memory.peak:,.0f} MiB."
        )

    def text(self, config: RunConfig) -> str:
        """Return the findings for a person."""
        total = sum(self.seconds.values())
        phases = ", ".join(f"{name} {value:.0f}" for name, value in self.seconds.items())
        lines = [
            f"recipe       {config.name}, seed {config.seed}",
            f"prompts      {self.prompts}, in {config.prompts}"
            + (f"; {self.comments} line{'s' * (self.comments > 1)} left out as comments" if self.comments else "")
            if config.source.draws
            else f"given        by {config.source}",
            f"held out     {self.heldout}, in {config.evaluation.prompts}; {config.evaluation.seeds} seeds each"
            if self.heldout.total
            else "held out     none: nothing is evaluated (name prompts with --evaluation.prompts)",
            f"iteration    {config.prompts_per_step} "
            + (f"prompts x {config.group_size} samples = " if config.source.draws else "given groups, ")
            + f"{self.samples} samples, {self.decisions} decisions or noised samples to learn from, "
            f"in passes of {config.micro_batch}",
            f"run          {config.steps} iterations, {config.steps * self.samples} samples, "
            f"{self.evaluations} network evaluations",
            f"time         about {total:.0f} s ({phases})",
            f"memory       {self.memory}",
            *(f"reward       {name}: {', '.join(f'{v:.3f}' for v in values)} on two samples"
              for name, values in self.rewards.items()),
            *(f"judge        {each.name}: {each}" for each in self.judges),
        ]  # fmt: skip
        if self.floor is not None and self.clip is not None:
            lines.append(
                f"ratio        1 before any update; noise floor {self.floor:.1e}, clip range {self.clip[0]:.1e} and "
                f"{self.clip[1]:.1e} nats per latent element"
            )
        return "\n".join([*lines, *(f"note         {notice}" for notice in self.notices)])


@dataclass(frozen=True)
class Rehearsal:
    """A part of the evaluation that the dry run tries: held-out prompts by one sampler.

    `evaluate` draws and judges a sample of each of the prompts that it is given, as the run will, and returns how many
    were judged, and the bytes of all stills. In the run `samples` are drawn so, and `kept` stills are kept.
    """

    evaluate: Callable[[Sequence[Prompt]], tuple[int, int]]
    samples: int
    kept: int


@dataclass(frozen=True)
class Pace:
    """How fast a full pass of samples was: their number, the network evaluations for them, seconds by phase."""

    samples: int
    evaluations: int
    seconds: Mapping[str, float]

    def sample(self, evaluations: float) -> float:
        """Return the seconds for a sample that takes so many evaluations, and is judged; inf if none was drawn."""
        if not self.evaluations:
            return math.inf
        return evaluations * self.seconds["rollout"] / self.evaluations + self.seconds["reward"] / self.samples


@needing("the dry run")
def preflight(
    config: RunConfig,
    parts: Parts,
    heldout: Sequence[Prompt] = (),
    rehearsals: Sequence[Rehearsal] = (),
    snapshot: Callable[[], object] | None = None,
) -> Preflight:
    """Draw, judge and learn from one pass of samples, evaluate some, and leave every weight as it was.

    If the run will take snapshots, `snapshot` takes one.
    Raises UserError where the run could not work as configured.
    """
    _require_numbers(parts)
    num_prompts = max(1, min(config.prompts_per_step, config.micro_batch // config.group_size))
    rng, clock = Rng((config.seed, "preflight")), Clock(lambda phase: None, parts.team)
    every = kinds(parts.studio.prompts)
    chosen = [*every, *parts.studio.prompts][:num_prompts]
    sampler = PromptSampler(len(chosen), num_prompts, config.seed)
    alone = replace(parts.studio, team=ALONE, prompts=chosen, sampler=sampler)  # each process looks at the same samples
    before = parts.evaluations()
    scored = parts.source.scored(alone, 0, num_prompts, rng, clock)
    pace = Pace(len(scored.rollout), parts.evaluations() - before, dict(clock.seconds))
    if not scored.rewards:
        raise UserError("no sample is finite: look at the model's autoencoder and text encoders, or use float32")
    _judge_others(config, parts, scored.rollout, every[num_prompts:])
    start = time.perf_counter()
    notices = [*_ignored(config), *_unjudged(scored)]
    decisions, passes = _learn(config, parts, scored, rng)
    learned, used = time.perf_counter(), parts.evaluations() - before
    floor, clip = _ratio(config, parts, scored.rollout, notices)
    judges = _discern(config, parts, scored, rng) if parts.source.draws else []
    notices += [each.notice for each in judges if each.notice] or ([level(scored)] if level(scored) else [])
    scale = config.prompts_per_step / num_prompts * config.steps
    seconds = {name: value * scale for name, value in (clock.seconds | {"update": learned - start}).items()}
    seconds["update"] += _credit(config, parts, scored, rng) * config.steps
    stills, evaluations, missing = 0, used * scale, config.prompts_per_step / num_prompts - 1
    if heldout:
        some = kinds(heldout)[: config.micro_batch]
        seconds["evaluation"], measured, stills = _rehearse(rehearsals, some, parts.evaluations, pace, notices)
        evaluations += measured
    if snapshot is not None and config.snapshots.every:
        evaluations += _sheets(config, snapshot, parts.evaluations, seconds)
    memory = _memory(config, parts, scored.rollout, missing, stills)
    memory.require(total_memory_mib(parts.team.device))
    return Preflight(
        prompts=tally(parts.studio.prompts),
        heldout=tally(heldout),
        comments=read_prompts(config.prompts).comments if config.prompts.endswith(".txt") else 0,
        samples=round(len(scored.rollout) * config.prompts_per_step / num_prompts),
        decisions=round(decisions * config.prompts_per_step / num_prompts),
        passes=passes,
        evaluations=round(evaluations),
        seconds=seconds,
        memory=memory,
        rewards={name: column[:2].tolist() for name, column in scored.rewards.items()},
        judges=tuple(judges),
        floor=floor,
        clip=clip,
        notices=tuple(notices),
    )


def _unjudged(scored: Scored) -> list[str]:
    """Return in a line how many samples teach nothing, since a judge said nothing of them."""
    lost = int((~scored.valid).sum())
    if not scored.valid.any():
        return [NONE_JUDGED]
    silent = ", ".join(repr(name) for name, column in scored.rewards.items() if not column.isfinite().all())
    return [f"reward {silent} did not judge {lost} of {len(scored.valid)} samples: they teach nothing"] if lost else []


def _ignored(config: RunConfig) -> list[str]:
    """Return in a line which keys of the optimizer an algorithm that makes its own updates does not read."""
    if not config.algorithm.needs.own_update:
        return []
    idle = ", ".join(f"optimizer.{field.name}" for field in fields(config.optimizer) if field.name != AVERAGE)
    return [f"{type(config.algorithm).__name__} makes its own updates, of which no optimizer is told: {idle} are idle"]


def _require_numbers(parts: Parts) -> None:
    """Refuse a network with a weight that is not finite: it draws nothing, or only sometimes."""
    for name, network in parts.weights.roles["policy"].networks.items():
        for key, weight in ((key, own(weight)) for key, weight in network.state_dict().items()):
            if weight.is_floating_point() and not weight.isfinite().all():
                raise UserError(f"model: weight {key} of its {name} is not finite; save or download the model again")


def _judge_others(config: RunConfig, parts: Parts, rollout: Rollout, prompts: Sequence[Prompt]) -> None:
    """Ask the judges about prompts of which no sample was drawn, at most a pass of them, each with two pictures.

    The pictures are of other prompts: what a judge says of them is of no interest, but that it can.
    """
    count = min(2 * len(prompts), config.micro_batch) if parts.source.draws else 0
    if count == 0:
        return
    rows = torch.arange(count)
    shown = render(rollout.sample[: min(count, len(rollout))], parts.studio.decode, config.micro_batch)
    media, asked = select(shown.media, rows % len(shown.finite)), [prompts[i // 2] for i in rows.tolist()]
    with torch.no_grad():
        parts.studio.reward.columns(media, asked)
        parts.studio.reward.comparisons(media, asked, rows // 2)


def _discern(config: RunConfig, parts: Parts, scored: Scored, rng: Rng) -> list[Discernment]:
    """Return what the samples tell of each judge."""
    shown = render(scored.rollout.sample, parts.studio.decode, config.micro_batch)
    return discern(parts.studio.reward, scored, shown, config.micro_batch, rng.child("shaken"))


def _rehearse(
    rehearsals: Sequence[Rehearsal],
    prompts: Sequence[Prompt],
    evaluations: Callable[[], int],
    pace: Pace,
    notices: list[str],
) -> tuple[float, float, int]:
    """Evaluate the prompts by each sampler; return seconds and network evaluations of all, and the bytes of stills."""
    seconds, passes, stills, judged = 0.0, 0.0, 0.0, 0
    for rehearsal in rehearsals:
        start, before = time.perf_counter(), evaluations()
        valid, size = rehearsal.evaluate(prompts)
        measured, share = (time.perf_counter() - start) / len(prompts), (evaluations() - before) / len(prompts)
        seconds += min(measured, pace.sample(share)) * rehearsal.samples
        passes += share * rehearsal.samples
        stills += size / len(prompts) * rehearsal.kept
        judged += valid
    if not judged:
        notices.append("the evaluation's reward judged none of the held-out samples")
    return seconds, passes, round(stills)


def _sheets(
    config: RunConfig, snapshot: Callable[[], object], evaluations: Callable[[], int], seconds: dict[str, float]
) -> int:
    """Draw one of the run's sheets, which are alike; add the seconds of all, and return their network evaluations."""
    start, before, count = time.perf_counter(), evaluations(), config.snapshots.sheets(config.steps)
    snapshot()
    seconds["snapshots"] = (time.perf_counter() - start) * count
    return (evaluations() - before) * count


def _memory(config: RunConfig, parts: Parts, rollout: Rollout, missing: float, stills: int) -> Footprint:
    """Return the predicted peak; what samples show is measured on one of them."""
    shown = leaves(render(rollout.sample[:1], parts.studio.decode, 1).media)
    pictures = [leaf.expand(len(rollout), *leaf.shape[1:]) for leaf in shown]
    kept = [*leaves(rollout.sample), *leaves(rollout.trajectory), *pictures]
    trained = map(own, parts.weights.parameters().values())
    device = parts.team.device
    moments = MOMENT_BYTES[config.optimizer.kind]
    return footprint(device, peak_memory_mib(device), trained, kept, missing, stills, moments)


@needing("update")
def _credit(config: RunConfig, parts: Parts, scored: Scored, rng: Rng) -> float:
    """Have the algorithm say what was good; return the seconds: a critic, or a surrogate, learns there, and takes room.

    How long it learns does not depend on how many samples there are. What it has learned is forgotten.
    """
    start = time.perf_counter()
    parts.algorithm.advantage(scored, Context(rng.child("credit"), 0, config.micro_batch, loss_mean=config.loss_mean))
    return time.perf_counter() - start


@needing("update")
def _learn(config: RunConfig, parts: Parts, scored: Scored, rng: Rng) -> tuple[int, int]:
    """Run the update's forward and backward passes as if half of each group were good; return their size and number."""
    if even(scored) == len(scored.rollout):
        raise UserError(f"focus {config.focus} sees the same everywhere in every sample: it has nothing to point at")
    rollout, advantage = scored.rollout, torch.ones(len(scored.rollout))
    advantage[::2] = -1
    batch = Batch(rollout, config.focus.spread(advantage, scored))
    decisions = passes = 0
    context = Context(rng.child("update"), 0, config.micro_batch, loss_mean=config.loss_mean)
    for step in optimizer_steps(parts.algorithm, parts.actors, batch, context):
        decisions += step.size
        for share in step.shares(step.mass):
            parts.team.backward(share.loss)
            passes += 1
    parts.stepper.optimizer.zero_grad()
    return decisions, passes


@needing("update")
def _ratio(
    config: RunConfig, parts: Parts, rollout: Rollout, notices: list[str]
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the noise floor, max |log ratio| per element of decisions scored again, and the clip range."""
    needed = parts.algorithm.needs.clip
    if needed is None:
        return None, None
    policy = cast(DecisionProcess, parts.actors.policy)
    elements = policy.elements()
    clip = needed.per_element(elements)
    sizes = {config.micro_batch, 1 + config.micro_batch // 3}
    few = min(len(rollout), 16)
    ratios = torch.cat([rescore(policy, rollout, size, few, needed.of) for size in sizes])
    floor = float(ratios.abs().max()) / elements
    if not math.isfinite(floor):
        raise UserError("the log-ratios of the samples are not finite: check the model's weights, or use float32")
    if min(clip) < FLOORS * floor:
        message = (
            f"the clip range {min(clip):.2e} is below {FLOORS} noise floors ({floor:.2e} nats per element each): "
            "rounding would decide what is clipped. Widen clip_low and clip_high, run the network in float32, or go on "
            "with --ratio-floor warn"
        )
        if config.ratio_floor == "refuse":
            raise UserError(message)
        notices.append(message)
    return floor, clip


def rescore(
    policy: DecisionProcess,
    rollout: Rollout,
    micro_batch: int,
    num_samples: int | None = None,
    of: RatioKind = "log_ratio",
) -> Float[Tensor, " decisions"]:
    """Return log-ratios in nats of recorded decisions under the weights that made them: 0 but for rounding.

    `num_samples` None: of all samples; else of the first so many.
    """
    rows = torch.arange(len(rollout))[:num_samples]

    def ratio(pack: Decisions) -> Float[Tensor, " pack"]:
        return log_ratio_of(policy.distribution(pack, rollout.condition), pack, of)

    with torch.no_grad():
        return torch.cat([ratio(pack) for pack in policy.pack(rollout, rows, micro_batch)])
