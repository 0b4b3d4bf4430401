"""The dry run: one small real iteration without an optimizer step, before the first expensive minute.

It finds what would go wrong later: a reward that cannot be called, a ratio that is not 1 before any update, a clip
range below the noise of the arithmetic, a run that will not fit into memory or patience.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.needs import RatioKind
from limner.core.protocols import Context, DecisionProcess
from limner.core.rng import Rng
from limner.core.team import ALONE
from limner.core.types import Batch, Decisions, Rollout
from limner.data.prompts import read_prompts
from limner.engine.memory import peak_memory_mib
from limner.learning.passes import optimizer_steps
from limner.learning.ratio import log_ratio_of
from limner.training.config import RunConfig
from limner.training.loop import Clock, Parts

FLOORS = 3
"""A clip range below this many noise floors is decided by rounding."""


@dataclass(frozen=True)
class Preflight:
    """What the dry run found; seconds are estimates for all iterations, evaluation not included."""

    prompts: int
    comments: int
    """Lines of the prompt file that were left out."""
    samples: int
    decisions: int
    passes: int
    seconds: dict[str, float]
    memory_mib: float
    rewards: dict[str, list[float]]
    floor: float | None
    clip: tuple[float, float] | None
    notices: tuple[str, ...]

    def text(self, config: RunConfig) -> str:
        """Return the findings for a person."""
        total = sum(self.seconds.values())
        phases = ", ".join(f"{name} {value:.0f}" for name, value in self.seconds.items())
        lines = [
            f"recipe       {config.name}, seed {config.seed}",
            f"prompts      {self.prompts} in {config.prompts}"
            + (f"; {self.comments} lines left out as comments" if self.comments else ""),
            f"iteration    {config.prompts_per_step} prompts x {config.group_size} samples = {self.samples} samples, "
            f"{self.decisions} decisions or noised samples to learn from, in passes of {config.micro_batch}",
            f"run          {config.steps} iterations, {config.steps * self.samples} samples",
            f"time         about {total:.0f} s ({phases}), evaluation not included",
            f"memory       peak {self.memory_mib:.0f} MiB so far",
            *(f"reward       {name}: {', '.join(f'{v:.3f}' for v in values)} on two samples"
              for name, values in self.rewards.items()),
        ]  # fmt: skip
        if self.floor is not None and self.clip is not None:
            lines.append(
                f"ratio        1 before any update; noise floor {self.floor:.1e}, clip range {self.clip[0]:.1e} and "
                f"{self.clip[1]:.1e} nats per latent element"
            )
        return "\n".join([*lines, *(f"note         {notice}" for notice in self.notices)])


def preflight(config: RunConfig, parts: Parts) -> Preflight:
    """Draw, judge and learn from one pass of samples, and leave every weight as it was.

    Raises UserError where the run could not work as configured.
    """
    num_prompts = max(1, min(config.prompts_per_step, config.micro_batch // config.group_size))
    rng, clock = Rng((config.seed, "preflight")), Clock(lambda phase: None, parts.team)
    alone = replace(parts.studio, team=ALONE)  # each process looks at the same samples
    scored = parts.source.scored(alone, 0, num_prompts, rng, clock)
    start = time.perf_counter()
    notices = [] if scored.valid.any() else ["the reward judged none of the samples"]
    decisions, passes = _learn(config, parts, scored.rollout, rng)
    learned = time.perf_counter()
    floor, clip = _ratio(config, parts, scored.rollout, notices)
    scale = config.prompts_per_step / num_prompts * config.steps
    return Preflight(
        prompts=len(parts.studio.prompts),
        comments=read_prompts(config.prompts).comments if config.prompts.endswith(".txt") else 0,
        samples=config.prompts_per_step * config.group_size,
        decisions=round(decisions * config.prompts_per_step / num_prompts),
        passes=passes,
        seconds={name: value * scale for name, value in (clock.seconds | {"update": learned - start}).items()},
        memory_mib=peak_memory_mib(parts.team.device),
        rewards={name: column[:2].tolist() for name, column in scored.rewards.items()},
        floor=floor,
        clip=clip,
        notices=tuple(notices),
    )


def _learn(config: RunConfig, parts: Parts, rollout: Rollout, rng: Rng) -> tuple[int, int]:
    """Run the update's forward and backward passes as if half of each group were good; return their size and number."""
    advantage = torch.ones(len(rollout))
    advantage[::2] = -1
    decisions = passes = 0
    context = Context(rng.child("update"), 0, config.micro_batch)
    for step in optimizer_steps(parts.algorithm, parts.actors, Batch(rollout, advantage), context):
        decisions += step.size
        for share in step.shares(step.size):
            share.loss.backward()
            passes += 1
    parts.stepper.optimizer.zero_grad()
    return decisions, passes


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
