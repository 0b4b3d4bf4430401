"""From a judged rollout to advantages, by an algorithm's own settings."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from limner.core.types import Scored
from limner.objectives.advantage import AdvantageScale, group_advantage


@runtime_checkable
class GroupRelative(Protocol):
    """An algorithm that compares a sample with the others of its group; see `group_advantage`."""

    @property
    def scale(self) -> AdvantageScale: ...

    @property
    def ddof(self) -> int: ...

    @property
    def epsilon(self) -> float: ...


def relative_advantage(algorithm: GroupRelative, scored: Scored) -> Float[Tensor, " batch"]:
    """Return the group-relative advantage of the total reward, 0 for invalid samples and constant groups."""
    return group_advantage(
        scored.total, scored.rollout.group, scored.valid, algorithm.scale, algorithm.ddof, algorithm.epsilon
    )
