"""What the samples of a batch decide for themselves and what they have in common: windows, shared starts and trees.

A sample is told apart by its group and id alone, so that the plan of a part of a rollout is that part of its plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limner.core.rng import Rng
from limner.core.types import Trajectory
from limner.diffusion.gaussian import Gaussian

WAVES = 4
"""Waves of time that a critic sees."""


@dataclass(frozen=True, eq=False)
class Noisy:
    """What a step of denoising is decided in: x at time t, on its way to time s."""

    x: Float[Tensor, "*batch_and_latent"]
    t: Float[Tensor, "*batch"]
    s: Float[Tensor, "*batch"]

    def features(self) -> tuple[Tensor, Tensor]:
        """Return what a critic sees: x, and cos(k pi t)."""
        return self.x, torch.cos(math.pi * self.t[..., None] * torch.arange(WAVES, device=self.t.device))


@dataclass(frozen=True, eq=False)
class Walk:
    """The latents that a sample's decisions lead from and to, each once, and the times of its steps.

    Decisions are steps in a row, so that what is chosen in one is where the next begins: n of them have n + 1 points.
    """

    points: Float[Tensor, "batch points *latent"]
    t: Float[Tensor, "batch steps"]
    s: Float[Tensor, "batch steps"]

    @property
    def x(self) -> Float[Tensor, "batch steps *latent"]:
        """Where each begins: all points but the last, no copy."""
        return self.points[:, : self.t.shape[1]]

    @property
    def choices(self) -> Float[Tensor, "batch steps *latent"]:
        """Where each leads: all points but the first, no copy."""
        return self.points[:, 1:]

    @property
    def each(self) -> Noisy:
        """What each step was decided in."""
        return Noisy(self.x, self.t, self.s)

    def features(self) -> tuple[Tensor, Tensor]:
        """Return what a critic sees of each step."""
        return self.each.features()


@dataclass(frozen=True, eq=False)
class Plan:
    """Which steps are decisions of which sample, which samples are one state before a step, whose noise each takes.

    `decides` marks the decisions, steps in a row, equally many for every sample, and the same within a group. With
    `shared_start` a group is one state before its first decision. `splits` are steps at which every branch of a group
    divides in two: a tree whose leaves are samples k 2^splits to (k + 1) 2^splits - 1, as `rollout.collect` numbers
    them. What several samples share stands under the first of them.
    """

    group: Int[Tensor, " batch"]
    id: Int[Tensor, " batch"]
    decides: Bool[Tensor, "batch steps"]
    shared_start: bool = False
    splits: tuple[int, ...] = ()

    def branch(self, step: int) -> Int[Tensor, " batch"]:
        """Return the first sample of the branch that each one is on after `step`: itself, if nothing divides later."""
        return self.id - self.id % 2 ** sum(split > step for split in self.splits)

    def states(self, step: int) -> tuple[Int[Tensor, " states"], Int[Tensor, " batch"]]:
        """Return the different states before `step`: the row of the first sample in each, and each sample's state."""
        owner = self.branch(step - 1)
        if self.shared_start:
            owner = torch.where(self.decides[:, :step].any(1), owner, -1)
        different, place = torch.stack([self.group, owner], 1).unique(dim=0, return_inverse=True)
        first = torch.full((len(different),), len(place)).scatter_reduce(0, place, torch.arange(len(place)), "amin")
        order = first.argsort()
        return first[order], order.argsort()[place]

    def noise(self, rng: Rng, shape: tuple[int, ...]) -> Iterator[Float[Tensor, "batch *latent"]]:
        """Yield the noise that samples begin with, and then what each step adds where it is a decision.

        A sample has a stream of its own, and takes the next of it for each decision; samples on one branch take those
        of its first sample, and after a split each goes on in its own.
        """
        stream, rows, column = rng.child("noise"), torch.arange(len(self.id)), self._column
        drawn = stream.normal(self.branch(-1), (1 + self._count, *shape))
        yield rng.child("start").normal(self.group, shape) if self.shared_start else drawn[:, 0]
        for step in range(self.decides.shape[1]):
            if step in self.splits:
                drawn = stream.normal(self.branch(step), (1 + self._count, *shape))
            yield drawn[rows, (column[:, step] + 1).clamp(min=0)]

    def path(self, like: Float[Tensor, "batch *latent"], times: Float[Tensor, " points"]) -> Trajectory:
        """Return the trajectory that `record` fills in: a column a decision, tensors as `like`."""
        batch, steps = self.decides.shape
        spans = (each.expand(batch, steps)[self.decides] for each in (times[:-1], times[1:]))
        t, s = (each.view(batch, self._count).to(like) for each in spans)
        branches = torch.stack([self.branch(step) for step in range(steps)], 1)
        points = like.new_zeros(batch, self._count + 1, *like.shape[1:])
        old = Gaussian(like.new_zeros(batch, self._count, *like.shape[1:]), like.new_zeros(batch, self._count))
        node = branches[self.decides].view(batch, self._count)
        return Trajectory(Walk(points, t, s), t - s, old, node == self.id[:, None], node)

    def record(
        self, path: Trajectory, step: int, x: Tensor, choice: Tensor, drawn_from: Gaussian
    ) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor], Tensor]]:
        """Yield which columns of `path` hold what was decided at `step`, exactly as it was, on its way there."""
        rows = self.decides[:, step].nonzero()[:, 0]
        column = self._column[rows, step]
        first, points = column == 0, cast(Walk, path.states).points
        for kept, place, now in (
            (points, (rows[first], column[first]), x),  # later ones begin where the one before them led
            (points, (rows, column + 1), choice),
            (path.old.mean, (rows, column), drawn_from.mean),
            (path.old.std, (rows, column), drawn_from.std),
        ):
            yield kept, place, now[place[0]].to(kept, non_blocking=True)

    @property
    def _column(self) -> Int[Tensor, "batch steps"]:
        """The number of the decision that each step is; where it is none, that of the last one before it."""
        return self.decides.cumsum(1) - 1

    @property
    def _count(self) -> int:
        """The number of decisions of one sample."""
        return int(self.decides[:1].sum())
