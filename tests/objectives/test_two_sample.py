"""Ratios of densities against Gaussians in closed form, and the distance of two sets against sums by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limner.objectives.two_sample import discrepancy, fit_ratio, log_density_ratio

FACTOR, SHIFT = torch.tensor([[0.7, 0.0], [0.2, 0.5]]).double(), torch.tensor([0.5, -0.3]).double()


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return samples of N(0, I), and of N(SHIFT, FACTOR FACTOR')."""
    reference, made = torch.randn(2, count, 2, generator=torch.Generator().manual_seed(seed)).double()
    return reference, made @ FACTOR.T + SHIFT


def exact(x: Tensor) -> Tensor:
    """log of the first density over the second."""
    z = torch.linalg.solve_triangular(FACTOR, (x - SHIFT).T, upper=False).T
    return (z.square().sum(1) - x.square().sum(1)) / 2 + FACTOR.logdet()


def test_a_ratio_of_gaussians_and_the_divergence_that_is_its_mean() -> None:
    """Of 40,000 samples each; the reference has more of them in the second, which changes no density."""
    reference, made = drawn(40_000, 0)
    covariance = FACTOR @ FACTOR.T
    divergence = (covariance.trace() + SHIFT @ SHIFT - 2 - covariance.logdet()) / 2
    for some in (made, made[:10_000]):
        weights = fit_ratio(reference, some, 1e-3)
        found, true = log_density_ratio(made, reference, weights), exact(made)
        assert (found - true).abs().mean() < 0.05 * true.abs().mean()
        assert -found.mean().item() == pytest.approx(divergence.item(), rel=0.03)


def test_what_cannot_be_told_apart_has_a_ratio_of_one() -> None:
    reference, _ = drawn(50, 1)
    assert log_density_ratio(reference, reference, fit_ratio(reference, reference, 1.0)).abs().max() < 1e-12


def test_a_number_that_is_always_the_same_does_no_harm() -> None:
    reference, made = (torch.cat([each, torch.ones(len(each), 1)], 1) for each in drawn(200, 2))
    told = log_density_ratio(made, reference, fit_ratio(reference, made, 1.0))
    assert told.isfinite().all() and told.mean() < -0.3
    assert discrepancy(made, reference).mean() > 0.01


def test_the_distance_by_hand() -> None:
    """Three samples against four: all pairs, one after another."""
    reference, made = (each[:n] for each, n in zip(drawn(4, 3), (4, 3), strict=True))
    mean, std = reference.mean(0), reference.std(0, correction=0)
    p, q = ((each - mean) / std for each in (reference, made))
    apart = sorted(float((p[i] - p[j]).norm()) for i in range(4) for j in range(i))
    width = apart[(len(apart) - 1) // 2]  # torch's median is the lower one

    def kernel(a: Tensor, b: Tensor) -> float:
        return math.exp(-float((a - b).square().sum()) / (2 * width**2))

    within = sum(kernel(p[i], p[j]) for i in range(4) for j in range(4) if i != j) / 12
    own = sum(kernel(q[i], q[j]) for i in range(3) for j in range(3) if i != j) / 6
    across = sum(kernel(a, b) for a in q for b in p) / 12
    found = discrepancy(made, reference)
    assert found.mean().item() == pytest.approx(within + own - 2 * across)
    first = sum(kernel(q[0], q[j]) for j in (1, 2)) / 2 - sum(kernel(q[0], b) for b in p) / 4
    assert found[0].item() == pytest.approx(2 * first + within - own)
    with pytest.raises(ValueError, match="two samples or more of each, got 1 and 4"):
        discrepancy(made[:1], reference)


def test_samples_of_one_distribution_are_at_no_distance() -> None:
    """On average: the estimate is unbiased."""
    found = []
    for seed in range(40):
        reference, _ = drawn(60, seed)
        found.append(float(discrepancy(reference[:30], reference[30:]).mean()))
    values = torch.tensor(found)
    # The width and the scale are the reference's, which leaves a bias far below the spread.
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(values))
