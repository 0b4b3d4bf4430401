"""Finished samples that are noised again, and what networks make of them."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs, Renoising
from limner.core.protocols import Actors, ForwardProcess
from limner.core.settings import Count, Share, settings
from limner.core.types import Batch, Renoised
from limner.diffusion.prediction import Estimate
from limner.diffusion.timesteps import TrainingTimes
from limner.objectives.matching import velocity_mse

ErrorKind: TypeAlias = Literal["velocity", "noise"]
"""What an error of restoration is taken of; on a rectified flow that of the noise is (1 - t)^2 times the other."""


class Matching(Protocol):
    """An algorithm that restores samples at times of its choice."""

    @property
    def num_times(self) -> int: ...

    @property
    def times(self) -> TrainingTimes: ...

    @property
    def min_time(self) -> float: ...


@settings
class Noising:
    """How samples are noised again to be learned from, and what the `error` of their restoration is taken of."""

    num_times: Count = 4
    times: TrainingTimes = "logit_normal"
    min_time: Share = 0.0
    error: ErrorKind = "velocity"


def renoising_of(algorithm: Matching, by_group: bool = False, by_all: bool = False) -> Renoising:
    """Return how an algorithm has samples noised again."""
    return Renoising(algorithm.num_times, algorithm.times, algorithm.min_time, by_group, by_all)


def restored(policy: ForwardProcess, batch: Batch, pack: Renoised) -> Estimate:
    """Return what weights that learn make of a pack: one pass of the network."""
    return policy.restore(pack, batch.rollout.condition)


def frozen(policy: ForwardProcess, batch: Batch, pack: Renoised) -> Estimate:
    """Return what weights that do not learn, old ones or the reference, make of a pack: without gradient."""
    with torch.no_grad():
        return restored(policy, batch, pack)


def restored_now_and_then(
    actors: Actors[ForwardProcess], needs: Needs, batch: Batch, pack: Renoised
) -> tuple[Estimate, Estimate]:
    """Return what the trained weights make of a pack, and those that drew the samples: one pass where these are one."""
    now = restored(actors.policy, batch, pack)
    return now, frozen(actors.old, batch, pack) if needs.old else now


def matching_error(estimate: Estimate, pack: Renoised, of: ErrorKind = "velocity") -> Float[Tensor, " pack"]:
    """Return |velocity - (noise - x0)|^2 / D, or |noise' - noise|^2 / D: how far from a perfect restoration it is.

    Where a sample counts in a region alone, the mean is over that; of segments it is the mean of label times error.
    """
    return velocity_mse(predicted(estimate, of), predicted(pack, of), pack.region)


def predicted(what: Estimate | Renoised, of: ErrorKind) -> Float[Tensor, "batch *latent"]:
    """Return the velocity, or the noise, of an estimate or of what it is an estimate of."""
    return what.noise if of == "noise" else what.velocity
