"""What an iteration costs: so that entries of `limner bench scenes` get as many as one budget pays for.

The currency is an evaluation of the network of the scenes base, while it draws or learns. Where a kind has another
network, or asks it in other portions, an iteration is worth the evaluations whose operations it takes.
"""

from __future__ import annotations

import statistics
from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from limner.bench.annotated import Annotated
from limner.bench.entries import DENOISERS
from limner.build import assemble
from limner.core.protocols import Context
from limner.core.rng import Rng
from limner.learning.credit import credited
from limner.machine.gauge import FLOPS
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.training.config import Evaluation, Full, Model, RunConfig
from limner.training.loop import update
from limner.worlds.annotator import Annotator


def evaluations(config: RunConfig) -> int:
    """Return the network evaluations of one iteration, if all samples teach: those that the counter of a run has seen.

    Of denoisers one group is counted, on average over the windows that may be drawn for it. For others it is the
    iteration's operations, in those of an evaluation of the scenes base where the best-known entry trains it.
    """
    sampler = config.sampler
    if not isinstance(sampler, Sampler):
        return round(operations(config) / unit())
    low, high = sampler.window_range if sampler.window and sampler.window_schedule == "random" else (0, 0)
    starts = [(start, start) for start in range(low, high + 1)] if high > low else [sampler.window_range]
    counts = [counted(replace(config, sampler=replace(sampler, window_range=each))) for each in starts]
    anchored = config.anchor.batch if config.anchor.weight else 0  # in each step, of which such entries take one
    return round(config.prompts_per_step * statistics.mean(counts)) + anchored


def counted(config: RunConfig) -> int:
    """Carry out an iteration of one group, half of it good, or one pair; return how often its network was asked.

    The network is an oracle's, which costs nothing: how often a network is asked does not depend on what it answers.
    """
    model = Model("limner.worlds.oracle.model:OracleSettings", "o2", train=Full())
    small = replace(config, model=model, prompts="oracle:train", reward="o2", evaluation=Evaluation(), device="cpu")
    small = override(small, {"anchor.weight": 0.0, "anchor.data": ""})
    source = small.source if small.source.draws else Annotated(Annotator("o2"))
    parts = assemble(replace(small, source=source, prompts_per_step=1)).parts
    rng = Rng((config.seed, "counted"))
    scored = parts.source.scored(parts.studio, 0, 1, rng, lambda phase: nullcontext())
    advantage = torch.ones(len(scored.total))
    advantage[::2] = -1
    advantage[2:] *= not parts.algorithm.needs.pairs
    update(parts, credited(scored, advantage), Context(rng.child("update"), 0, config.micro_batch))
    return parts.evaluations()


@cache
def unit() -> float:
    """Return the operations of an iteration of DiffusionNFT on the scenes base, by its network evaluations."""
    config = override(recipe("scenes"), DENOISERS["DiffusionNFT, on policy"])
    return operations(config) / evaluations(config)


def operations(config: RunConfig) -> int:
    """Return the operations of products in one iteration, by one of two groups and one of one: all but the judge's.

    A surrogate or critic takes as many whatever the number of groups; drawing, decoding and learning go by it.
    """
    one, two = (_operations(replace(config, prompts_per_step=count)) for count in (1, 2))
    return two + (config.prompts_per_step - 2) * (two - one)


def _operations(config: RunConfig) -> int:
    """Carry out an iteration in which one sample of two is good, and count."""
    parts = assemble(replace(config, evaluation=Evaluation(), device="cpu")).parts
    rng = Rng((config.seed, "counted"))
    seen = FlopCounterMode(display=False)
    seen.flop_registry |= FLOPS  # it does not know fused attention on a CPU
    with seen:
        scored = parts.source.scored(parts.studio, 0, config.prompts_per_step, rng, lambda phase: nullcontext())
        scored = replace(scored, total=(torch.arange(len(scored.total)) % 2).to(scored.total))
        context = Context(rng.child("update"), 0, config.micro_batch)
        advantage = config.focus.spread(parts.algorithm.advantage(scored, context), scored)
        update(parts, credited(scored, advantage), context)
    return seen.get_total_flops()
