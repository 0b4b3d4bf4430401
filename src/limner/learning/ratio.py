"""Decisions scored again under the trained weights: how much likelier they have become, and what a clip makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol, TypeAlias, assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.needs import Clip, RatioKind
from limner.core.protocols import Actors, DecisionProcess, Distribution
from limner.core.types import Batch, Decisions, PassLoss
from limner.diffusion.gaussian import Gaussian, Weight
from limner.objectives.surrogate import clipped_surrogate, praise_and_blame, surrogate_metrics

Surrogate: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A loss of (log-ratio, advantage)."""


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
class Part:
    """What of a decision is praised or blamed: its log-ratio in nats per element of a choice, and its advantage."""

    log_ratio: Float[Tensor, " pack"]
    advantage: Float[Tensor, " pack"]


@dataclass(frozen=True)
class Rescored:
    """What the trained weights say of decisions, against what was recorded.

    A decision has one part, or, where its advantage differs over the latent, what is praised of it and what is blamed.
    """

    distribution: Distribution
    parts: Sequence[Part]
    elements: int

    def loss(self, surrogate: Surrogate) -> Float[Tensor, " pack"]:
        """Return the sum over the parts of the surrogate of (log-ratio, advantage)."""
        return sum_of(surrogate(part.log_ratio, part.advantage) for part in self.parts)

    def health(self, clip: Clip) -> dict[str, Float[Tensor, " pack"]]:
        """Return how far they have moved, and what a clip would cut off."""
        band = clip.per_element(self.elements)
        found = [surrogate_metrics(part.log_ratio, part.advantage, *band) for part in self.parts]
        means = {name: sum_of(each[name] for each in found) / len(found) for name in found[0]}
        return means | {"ratio_deviation": self.deviation}

    @property
    def deviation(self) -> Float[Tensor, " pack"]:
        """How far the log-ratio is from 0, without gradient."""
        return sum_of(part.log_ratio.detach().abs() for part in self.parts) / len(self.parts)

    def clipped(self, clip: Clip, pessimistic: bool = True) -> PassLoss:
        """Return the clipped surrogate of each decision, and its health; see `clipped_surrogate`."""
        low, high = clip.per_element(self.elements)
        loss = self.loss(lambda ratio, advantage: clipped_surrogate(ratio, advantage, low, high, pessimistic))
        return loss, self.health(clip)


def rescored(actors: Actors[DecisionProcess], batch: Batch, pack: Decisions, of: RatioKind = "log_ratio") -> Rescored:
    """Return a pack's decisions under the trained weights: one pass of the network."""
    elements = actors.policy.elements()
    distribution = actors.policy.distribution(pack, batch.rollout.condition)
    advantage = batch.decision_advantage(pack)
    if advantage.ndim == 1:
        log_ratio = log_ratio_of(distribution, pack, of) / elements
        return Rescored(distribution, (Part(log_ratio, advantage.to(log_ratio)),), elements)
    parts = []
    for amount, weight in praise_and_blame(advantage):
        log_ratio = log_ratio_of(distribution, pack, of, weight) / elements
        parts.append(Part(log_ratio, amount.to(log_ratio)))
    return Rescored(distribution, parts, elements)


def log_ratio_of(
    distribution: Distribution, pack: Decisions, of: RatioKind, weight: Weight | None = None
) -> Float[Tensor, " pack"]:
    """Return the log-ratio that a clip is `of`, summed over a choice, whose elements count `weight` times.

    Raises UserError for a distance, or a weight, where choices are no points with a mean.
    """
    if not isinstance(distribution, Gaussian):
        if of == "distance" or weight is not None:
            what = "ratio distance" if weight is None else "focus"
            raise UserError(f"{what} is one of Gaussian decisions, not of {type(distribution).__name__}: leave it out")
        ratio = distribution.log_ratio if of == "log_ratio" else distribution.normalised_log_ratio
        return ratio(pack.old, pack.choice)
    match of:
        case "log_ratio":
            return distribution.log_ratio(pack.old, pack.choice, weight)
        case "normalised":
            return distribution.normalised_log_ratio(pack.old, pack.choice, weight)
        case "distance":
            return distribution.distance_ratio(pack.old, pack.choice, weight)
    assert_never(of)


def sum_of(terms: Iterable[Tensor]) -> Tensor:
    """Return the sum of at least one tensor."""
    return reduce(torch.add, terms)


def to_reference(actors: Actors[DecisionProcess], batch: Batch, pack: Decisions) -> Float[Tensor, " pack"]:
    """Return how much likelier decisions are than under the reference, as a log-ratio per element of a choice."""
    new = actors.policy.distribution(pack, batch.rollout.condition)
    with torch.no_grad():
        reference = actors.reference.distribution(pack, batch.rollout.condition)
    return new.log_ratio(reference, pack.choice) / actors.policy.elements()
