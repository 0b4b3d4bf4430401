"""How well votes fit worths that are wrong by some error: against quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from limner.objectives.evidence import log_evidence

NORMAL = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("lead", "first", "second", "std"), [(0.3, 1, 0, 0.8), (-1.2, 3, 1, 0.4), (2.0, 0, 5, 1.5)])
def test_two_pictures_by_quadrature(lead: float, first: int, second: int, std: float) -> None:
    """Of one pair only the lead counts, which is normal with twice the variance."""

    def integrand(x: float) -> float:
        p = 1 / (1 + math.exp(-x))
        return float(norm.pdf(x, lead, std * math.sqrt(2)) * p**first * (1 - p) ** second)

    expected, _ = quad(integrand, -15, 15)
    votes = torch.tensor([[first, second]]).double()
    found = log_evidence(torch.tensor([lead, 0.0]), torch.full((2,), std), torch.tensor([[0, 1]]), votes, NORMAL)
    assert float(found) == pytest.approx(math.log(expected), abs=0.01)


def test_lots_at_once_are_what_each_is_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    mean, std = torch.randn(3, 4, generator=generator), torch.rand(3, 4, generator=generator) + 0.1
    pairs = torch.stack([torch.randperm(4, generator=generator).reshape(2, 2) for _ in range(3)])
    votes = torch.randint(0, 4, (3, 2, 2), generator=generator).double()
    normal = torch.randn(50, 4, generator=generator)
    together = log_evidence(mean, std, pairs, votes, normal)
    alone = [log_evidence(mean[i], std[i], pairs[i], votes[i], normal) for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone))
