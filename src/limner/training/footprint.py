"""How much memory a run will take, told from its dry run; and what it will take at least, told before.

    peak = P + M + max((1 - k / N) R, S)

P is the peak of the dry run, which makes one full pass of everything: rollout, judges, backward, evaluation. M is
what Adam keeps of the trained weights, two numbers for each, which the dry run does not have. R is what an iteration
keeps of its N samples (latents, recorded decisions, what they show), of which the dry run had k. S are the stills of
all evaluations, before and after, by every sampler, which the report reads together. On a cuda device only what lives
there counts. What does not fit into the machine is refused: a slip of a few digits must not end in a kill.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.errors import UserError
from limner.core.types import LatentSpec
from limner.engine.optim import MOMENT_BYTES
from limner.training.config import RunConfig


@dataclass(frozen=True)
class Footprint:
    """Memory at the peak of a run, in MiB, by what it is for."""

    dry_run: float
    """What the dry run took, with the model and all that is imported."""
    optimizer: float
    samples: float
    """What an iteration keeps of samples that the dry run did not draw, or, if more, the stills of the evaluations."""

    @property
    def peak(self) -> float:
        """All of it."""
        return self.dry_run + self.optimizer + self.samples

    def require(self, total: float) -> None:
        """Raise UserError if there are fewer than its peak in all."""
        if self.peak > total:
            raise UserError(
                f"memory: {self}, and there are {total:,.0f} MiB: lower prompts_per_step, group_size, micro_batch, "
                "evaluation.seeds, or what is trained"
            )

    def __str__(self) -> str:
        return (
            f"peak about {self.peak:,.0f} MiB ({self.dry_run:,.0f} in this dry run, {self.optimizer:,.0f} for the "
            f"optimizer, {self.samples:,.0f} for all samples)"
        )


def footprint(
    device: torch.device,
    peak_mib: float,
    trained: Iterable[Tensor],
    kept: Iterable[Tensor],
    missing: float,
    stills: int,
    moment_bytes: float = MOMENT_BYTES["adamw"],
) -> Footprint:
    """Predict the peak from that of the dry run.

    `kept` is what the dry run kept of its samples, `missing` how many times as many the others are, `stills` the bytes
    of all of the evaluation's, and `moment_bytes` what the optimizer keeps of a trained number.
    """
    samples = missing * sum(tensor.nbytes for tensor in kept if tensor.device.type == device.type)
    shown = 0 if device.type == "cuda" else stills
    moments = moment_bytes * sum(tensor.numel() for tensor in trained)
    return Footprint(peak_mib, moments / 2**20, max(samples, shown) / 2**20)


def require_room(config: RunConfig, latent: LatentSpec, total: float) -> None:
    """Raise UserError if the latents of an iteration alone, drawn and noised again, take more than `total` MiB.

    No network and no picture is counted: what is refused here cannot be tried either.
    """
    samples = config.prompts_per_step * (config.group_size if config.source.draws else 1)
    renoise, updates = config.algorithm.needs.renoise, config.algorithm.num_updates
    times = renoise.num_times / updates if renoise is not None else 0
    least = samples * (1 + times) * latent.size * latent.dtype.itemsize / 2**20
    if least > total:
        noised = "" if renoise is None else f", each noised again {renoise.num_times:,} times"
        raise UserError(
            f"memory: the latents of the {samples:,} samples of an iteration{noised}, take {least:,.0f} MiB at least, "
            f"and there are {total:,.0f}: lower prompts_per_step, group_size"
            + ("" if renoise is None else " or algorithm.num_times")
        )
