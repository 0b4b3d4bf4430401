"""From a judged rollout to advantages, by an algorithm's own settings, and from samples to their decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.protocols import Context
from limner.core.types import Advantage, Batch, Scored
from limner.objectives.advantage import TreeScale, branch_mean, depth_advantage, group_advantage


@runtime_checkable
class GroupRelative(Protocol):
    """An algorithm that compares a sample with the others of its group; see `group_advantage`."""

    @property
    def scale(self) -> TreeScale: ...

    @property
    def ddof(self) -> int: ...

    @property
    def epsilon(self) -> float: ...


@runtime_checkable
class ClippedRelative(GroupRelative, Protocol):
    """One whose advantage has bounds."""

    @property
    def advantage_max(self) -> float: ...


def relative_advantage(
    algorithm: GroupRelative, scored: Scored, context: Context, trim: float = 0.0
) -> Float[Tensor, " batch"] | Float[Tensor, "batch steps"]:
    """Return the group-relative advantage of the total reward, 0 for invalid samples and constant groups.

    It is the method `advantage` of an algorithm that makes no more of it.
    With scale "depth" it is that of each decision among those of its depth, 0 where it leads to no valid sample; see
    `depth_advantage`.
    """
    rollout = scored.rollout
    if algorithm.scale == "depth":
        node, mask = rollout.path.node, rollout.path.mask
        return depth_advantage(scored.total, rollout.group, scored.valid, node, mask, algorithm.ddof, algorithm.epsilon)
    return group_advantage(
        scored.total, rollout.group, scored.valid, algorithm.scale, algorithm.ddof, algorithm.epsilon, trim
    )


def clipped_advantage(
    algorithm: ClippedRelative, scored: Scored, context: Context
) -> Float[Tensor, " batch"] | Float[Tensor, "batch steps"]:
    """Return the `relative_advantage`, at most `advantage_max` standard deviations to either side."""
    found = relative_advantage(algorithm, scored, context)
    return found.clamp(-algorithm.advantage_max, algorithm.advantage_max)


def credited(scored: Scored, advantage: Advantage) -> Batch:
    """Return what an algorithm learns from: in a tree, a shared decision has the mean advantage of its valid samples.

    A decision that leads to no valid sample is masked. Up to here rewards and their statistics are float64; what weighs
    losses is float32.
    """
    rollout, path = scored.rollout, scored.rollout.trajectory
    if path is None or bool(path.mask.all()):
        return Batch(rollout, advantage.float())
    weight = scored.valid.to(advantage)
    alive = branch_mean(weight[:, None].expand(path.node.shape), path.node, torch.ones_like(weight)) > 0
    rollout = replace(rollout, trajectory=replace(path, mask=path.mask & alive))
    shared = bool((path.node != rollout.id[:, None]).any())
    if advantage.ndim > 2 and not shared:  # large, and its own mean
        return Batch(rollout, advantage.float())
    each = advantage[:, None] if advantage.ndim == 1 else advantage
    each = each.expand(*path.node.shape, *each.shape[2:])
    return Batch(rollout, branch_mean(each, path.node, weight).float())
