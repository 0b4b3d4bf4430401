"""How far stated probabilities are to be trusted: what was said often, beside what came true."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class ReliabilityDiagram(NamedTuple):
    """Of each bin that holds any case: the mean probability stated, the share that came true, and how many cases."""

    stated: Float[Tensor, " bins"]
    true: Float[Tensor, " bins"]
    cases: Int[Tensor, " bins"]

    @property
    def error(self) -> float:
        """Return the expected calibration error, sum_b n_b / n |true_b - stated_b|.

        Source: Guo et al., On calibration of modern neural networks, arXiv:1706.04599, eq. 3.
        """
        weight = self.cases / self.cases.sum()
        return float((weight * (self.true - self.stated).abs()).sum())


def reliability_diagram(
    probability: Float[Tensor, " cases"], true: Float[Tensor, " cases"], bins: int = 10
) -> ReliabilityDiagram:
    """Return `bins` bins of equal width of the probability of what came true (1), or did not (0), or half (a tie)."""
    place = (probability * bins).long().clamp(0, bins - 1)
    count = torch.bincount(place, minlength=bins)
    sums = [torch.zeros(bins, dtype=torch.float64).index_add_(0, place, x.double()) for x in (probability, true)]
    there = count > 0
    stated, came = (total[there] / count[there] for total in sums)
    return ReliabilityDiagram(stated, came, count[there])
