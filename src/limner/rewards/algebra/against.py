"""Functions that hold samples against others: what a discriminator says of them, and how far they have drifted.

Both see of a sample the numbers that their expressions give. The others are pictures of `data`, a folder or a world,
or, without, the samples of the first iteration, which are the base's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.settings import Natural, Positive
from limner.objectives.two_sample import discrepancy, fit_ratio, log_density_ratio
from limner.rewards.algebra.functions import Column, Function
from limner.rewards.algebra.tree import Scope, value_of

LEAST = 2
"""Samples without which there is nothing to compare with."""


@dataclass(frozen=True)
class Against(Function):
    """What compares the samples of an iteration, as a set, with a reference."""

    data: str = ""

    count = (1, 99)
    absolute = False

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        x = torch.stack(list(parts), 1).double()
        there = x.isfinite().all(1)
        told = torch.full_like(x[:, 0], torch.nan)
        if int(there.sum()) >= LEAST:
            told[there] = self.compared(x[there], self.reference(x[there], scope), scope)
        return told

    def reference(self, x: Float[Tensor, "batch numbers"], scope: Scope) -> Float[Tensor, "known numbers"]:
        """Return what samples are held against; it is remembered, so that a run goes on with the same."""
        memory = self.remembered(scope)
        if "reference" not in memory:
            memory["reference"] = self.given(scope) if self.data else x.clone()
        return memory["reference"]

    def given(self, scope: Scope) -> Float[Tensor, "known numbers"]:
        """Return the numbers that the expressions give of the data. Raises UserError if they give too few."""
        columns = scope.references[self.data]
        apart = Scope(columns, torch.arange(len(next(iter(columns.values())))))
        x = torch.stack([value_of(each, apart) for each in self.arguments], 1).double()
        x = x[x.isfinite().all(1)]
        if len(x) < LEAST:
            raise UserError(f"reward {self}: {len(x)} pictures of {self.data} could be judged; give {LEAST} or more")
        return x

    def compared(
        self, x: Float[Tensor, "batch numbers"], reference: Float[Tensor, "known numbers"], scope: Scope
    ) -> Column:
        """Return a number for each sample."""
        raise NotImplementedError


@dataclass(frozen=True)
class Adversary(Against):
    """log p(x) / q(x) by a discriminator of the reference p from the samples q; its mean is -KL(q || p), in nats.

    It learns anew in `every` so many iterations, from all of the reference and the iteration's samples; 0: in the first
    alone, and a policy then finds what it never saw. With `weight * adversary(...)` added to a reward, the policy
    maximises it less weight KL(samples || reference), as if both had densities.
    Source: Adv-GRPO, arXiv:2511.20256, and GAN-RM, arXiv:2506.13846, whose discriminators are networks.
    """

    every: Natural = 1
    ridge: Positive = 1.0

    name = "adversary"

    def compared(
        self, x: Float[Tensor, "batch numbers"], reference: Float[Tensor, "known numbers"], scope: Scope
    ) -> Column:
        memory = self.remembered(scope)
        if "weights" not in memory or (self.every and scope.step % self.every == 0):
            memory["weights"] = fit_ratio(reference, x, self.ridge)
        return log_density_ratio(x, reference, memory["weights"])


@dataclass(frozen=True)
class Closeness(Against):
    """Minus the squared maximum mean discrepancy of the samples from the reference: 0, up to chance, is no drift.

    What a sample has is such that the mean is -MMD^2, and the difference of two what one adds more than the other. As
    the condition of `constrained` it is a budget of drift.
    """

    name = "closeness"

    def compared(
        self, x: Float[Tensor, "batch numbers"], reference: Float[Tensor, "known numbers"], scope: Scope
    ) -> Column:
        return -discrepancy(x, reference)
