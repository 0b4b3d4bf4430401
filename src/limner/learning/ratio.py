"""Decisions scored again under the trained weights: how much likelier they have become, and what a clip makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.needs import Clip, RatioKind
from limner.core.protocols import Actors, DecisionProcess, Distribution
from limner.core.types import Batch, Decisions, PassLoss
from limner.diffusion.gaussian import Gaussian
from limner.objectives.surrogate import clipped_surrogate, surrogate_metrics


class Clipping(Protocol):
    """An algorithm that clips a ratio."""

    @property
    def clip_low(self) -> float: ...

    @property
    def clip_high(self) -> float: ...

    @property
    def clip_elements(self) -> int: ...


def clip_of(algorithm: Clipping, of: RatioKind = "log_ratio") -> Clip:
    """Return an algorithm's clip range."""
    return Clip(algorithm.clip_low, algorithm.clip_high, algorithm.clip_elements, of)


@dataclass(frozen=True)
class Rescored:
    """What the trained weights say of decisions; `log_ratio` to what was recorded in nats per element of a choice."""

    distribution: Distribution
    log_ratio: Float[Tensor, " pack"]
    advantage: Float[Tensor, " pack"]
    elements: int

    def health(self, clip: Clip) -> dict[str, Float[Tensor, " pack"]]:
        """Return how far they have moved, and what a clip would cut off."""
        found = surrogate_metrics(self.log_ratio, self.advantage, *clip.per_element(self.elements))
        return found | {"ratio_deviation": self.log_ratio.detach().abs()}

    def clipped(self, clip: Clip, pessimistic: bool = True) -> PassLoss:
        """Return the clipped surrogate of each decision, and its health; see `clipped_surrogate`."""
        band = clip.per_element(self.elements)
        loss = clipped_surrogate(self.log_ratio, self.advantage, *band, pessimistic=pessimistic)
        return loss, self.health(clip)


def rescored(actors: Actors[DecisionProcess], batch: Batch, pack: Decisions, of: RatioKind = "log_ratio") -> Rescored:
    """Return a pack's decisions under the trained weights: one pass of the network."""
    elements = actors.policy.elements()
    distribution = actors.policy.distribution(pack, batch.rollout.condition)
    log_ratio = log_ratio_of(distribution, pack, of) / elements
    return Rescored(distribution, log_ratio, batch.decision_advantage(pack).to(log_ratio), elements)


def log_ratio_of(distribution: Distribution, pack: Decisions, of: RatioKind) -> Float[Tensor, " pack"]:
    """Return the log-ratio that a clip is `of`, summed over a choice.

    Raises UserError for a distance where choices are no points with a mean.
    """
    match of:
        case "log_ratio":
            return distribution.log_ratio(pack.old, pack.choice)
        case "normalised":
            return distribution.normalised_log_ratio(pack.old, pack.choice)
        case "distance" if isinstance(distribution, Gaussian):
            return distribution.distance_ratio(pack.old, pack.choice)
    raise UserError(f"ratio {of} is one of Gaussian decisions, not of {type(distribution).__name__}: take log_ratio")


def to_reference(actors: Actors[DecisionProcess], batch: Batch, pack: Decisions) -> Float[Tensor, " pack"]:
    """Return how much likelier decisions are than under the reference, as a log-ratio per element of a choice."""
    new = actors.policy.distribution(pack, batch.rollout.condition)
    with torch.no_grad():
        reference = actors.reference.distribution(pack, batch.rollout.condition)
    return new.log_ratio(reference, pack.choice) / actors.policy.elements()
