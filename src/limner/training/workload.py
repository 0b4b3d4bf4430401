"""How much an iteration is: samples, decisions, passes and network evaluations, by counting; nothing is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limner.core.team import Over
from limner.engine.optim import MOMENT_BYTES
from limner.policies.denoising import Sampler
from limner.training.config import OWN, NamedSampler, RunConfig


@dataclass(frozen=True)
class Workload:
    """The numbers of an iteration, of all processes together unless it is said otherwise."""

    groups: int
    group: int
    """Samples of a group."""
    steps: int
    """Steps of a sample; 0 where samples are given."""
    states: float
    """Latents that a group sends through the network while it is drawn, each once, or twice with guidance."""
    recorded: int
    """Decisions of a sample that are kept."""
    taught: int
    """Decisions of a group, or noised copies of its samples, that the update learns from, if all of them teach."""
    updates: int
    """Optimizer steps."""
    micro_batch: int
    """Samples drawn in one pass, and decisions, or noised samples, learnt from in one."""
    processes: int = 1
    on_device: bool = True
    """Whether recorded decisions wait where the network is."""
    encoded_there: bool = True
    """Whether text encoders are there while they encode."""
    decoded_there: bool = True
    """Whether samples are decoded there."""
    decode_batch: int = 0
    """Samples decoded at once, at most; 0: as many as the model takes of itself."""
    moment_bytes: float = MOMENT_BYTES["adamw"]
    """What the optimizer keeps of each trained number."""
    averaged: bool = False
    """Whether an average of what is trained is kept beside it."""
    machines: int = 1
    """On which the processes are, equally many on each."""
    shard: Over = "none"
    """Over which processes weights are spread."""

    @property
    def parts(self) -> int:
        """In how many parts weights are cut, each process with one of them."""
        return {"none": 1, "all": self.processes, "machine": self.processes // self.machines}[self.shard]

    @property
    def samples(self) -> int:
        """Samples of an iteration."""
        return self.groups * self.group

    @property
    def own_groups(self) -> int:
        """Groups of the process with most of them: they stay whole."""
        return math.ceil(self.groups / self.processes)

    @property
    def share(self) -> int:
        """Samples of that process."""
        return self.own_groups * self.group

    @property
    def rollout_passes(self) -> int:
        """Micro-batches in which that process draws its samples."""
        return math.ceil(self.share / self.micro_batch) if self.steps else 0

    @property
    def update_passes(self) -> int:
        """Micro-batches of an optimizer step of that process, whose gradients are added up."""
        return math.ceil(self.own_groups * self.taught / self.updates / self.micro_batch)


def workload(config: RunConfig, processes: int = 1, given: int = 1, machines: int = 1) -> Workload:
    """Return the numbers of an iteration; `given` are the samples of a group that is not drawn."""
    needs, sampler = config.algorithm.needs, config.sampler
    group = config.group_size if config.source.draws else given
    drawn = sampler if isinstance(sampler, Sampler) and config.source.draws else None
    recorded = decisions(drawn) if needs.path and drawn is not None else 0
    learnt = group * needs.renoise.num_times if needs.renoise is not None else 0
    if needs.renoise is None and drawn is not None:
        learnt = branches(drawn) if drawn.splits else group * recorded
    units = config.prompts_per_step * (1 if needs.pairs or (needs.renoise and needs.renoise.by_group) else group)
    return Workload(
        groups=config.prompts_per_step,
        group=group,
        steps=drawn.steps if drawn is not None else 0,
        states=states(drawn, group) if drawn is not None else 0.0,
        recorded=recorded,
        taught=learnt,
        updates=min(config.algorithm.num_updates, units),
        micro_batch=config.micro_batch,
        processes=processes,
        on_device=drawn is None or drawn.keep == "device",
        encoded_there=config.model.encoders == "device",
        decoded_there=config.model.vae == "device",
        decode_batch=config.model.decode_batch,
        moment_bytes=MOMENT_BYTES[config.optimizer.kind],
        averaged=config.optimizer.ema > 0,
        machines=machines,
        shard=config.shard,
    )


def decisions(sampler: Sampler) -> int:
    """Return how many steps of a sample are decisions: those of the window, or all but the last; of an ODE none."""
    if not sampler.dynamics.stochastic:
        return 0
    return sampler.window or sampler.steps - 1


def branches(sampler: Sampler) -> int:
    """Return the decisions of a tree of samples, each branch's once: 2^(splits up to step i), for all but the last."""
    return sum(2 ** sum(split <= step for split in sampler.splits) for step in range(sampler.steps - 1))


def states(sampler: Sampler, group: int) -> float:
    """Return how many latents a group sends through the network, over all steps of its samples.

    That is group x steps, but for what samples share: in a tree, step i has 2^(splits before i) states; with a shared
    start there is one, up to the first decision and with it. A window starts in the middle of its range, on average.
    Groups that micro-batches cut apart share less.
    """
    steps = sampler.steps
    if sampler.splits:
        return float(sum(2 ** sum(split < step for split in sampler.splits) for step in range(steps)))
    if not sampler.shared_start:
        return float(group * steps)
    if not sampler.dynamics.stochastic:
        return float(steps)
    first = sum(sampler.window_range) / 2 if sampler.window else 0.0
    return first + 1 + group * (steps - first - 1)


def guided(sampler: Sampler) -> int:
    """Return how many network evaluations a latent takes: with guidance, two."""
    return 1 if sampler.guidance == 1 else 2


@dataclass(frozen=True)
class Measured:
    """Samples that are drawn, by one sampler, to measure a result: `kept` whose stills stay, and those of curves."""

    by: NamedSampler
    kept: int
    curve: int

    @property
    def samples(self) -> int:
        """All of them."""
        return self.kept + self.curve


def measured(config: RunConfig, heldout: int) -> Sequence[Measured]:
    """Return what is drawn to evaluate on `heldout` prompts, before and after, and on a part of them for the curve."""
    settings = config.evaluation
    part = len(curve_part(range(heldout), settings.part))
    curves = config.steps // settings.every * part if settings.every else 0
    each = settings.seeds * heldout
    return [
        Measured(named, each * (2 if named.when == "both" else 1), curves if named.name == OWN else 0)
        for named in settings.measured(config.sampler)
    ]


def curve_part(heldout: Sequence[Any], part: int) -> Sequence[Any]:
    """Return about `part` of the held-out prompts, spread over all of them."""
    return heldout[:: max(1, len(heldout) // part)]
