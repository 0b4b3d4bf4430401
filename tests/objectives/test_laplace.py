"""Posteriors by Laplace against Newton's logistic fit, closed forms, and what draws are to average to."""

from __future__ import annotations

import pytest
import torch

from limner.objectives.laplace import Normal, laplace
from limner.objectives.logistic import fit_logistic


def test_of_a_quadratic_loss_it_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=generator).double()
    precision, mean = root @ root.T + torch.eye(5), torch.randn(5, generator=generator).double()
    found = laplace(lambda w: (w - mean) @ precision @ (w - mean) / 2, torch.zeros(5))
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.precision, precision.double())


def test_of_a_logistic_loss_it_is_newtons_mode_and_fishers_information() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 4, generator=generator).double()
    y = (torch.rand(60, generator=generator) < 0.5).double()
    found = laplace(
        lambda w: (torch.nn.functional.softplus(x @ w) - y * (x @ w)).sum() + w.square().sum(), torch.zeros(4)
    )
    fitted = fit_logistic(x, y, ridge=2.0)
    torch.testing.assert_close(found.mean, fitted.weights)
    p = torch.sigmoid(x @ fitted.weights)
    torch.testing.assert_close(found.precision, (x * (p * (1 - p))[:, None]).T @ x + 2 * torch.eye(4).double())


def test_draws_have_its_mean_exactly_and_its_spread_on_average() -> None:
    precision = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double()
    normal = Normal(torch.tensor([3.0, -1.0]).double(), precision)
    generator = torch.Generator().manual_seed(2)
    lots = torch.stack([normal.draws(4, generator) for _ in range(20_000)]) - normal.mean
    torch.testing.assert_close(lots.mean(1), torch.zeros(20_000, 2).double(), atol=1e-12, rtol=0)
    spread = torch.einsum("lmi,lmj->ij", lots, lots) / lots.shape[0] / lots.shape[1]
    torch.testing.assert_close(spread, precision.inverse(), atol=0.02, rtol=0)
    torch.testing.assert_close(normal.draws(1, generator)[0], normal.mean)


def test_what_is_known_of_some_weights_takes_the_others_at_their_mean() -> None:
    """The conditional distribution of a normal one: its precision is the block of the precision."""
    covariance = torch.tensor([[2.0, 0.6, 0.2], [0.6, 1.0, 0.3], [0.2, 0.3, 0.5]]).double()
    some = Normal(torch.tensor([1.0, 2.0, 3.0]).double(), covariance.inverse()).about(2)
    across = covariance[:2, 2:]
    torch.testing.assert_close(some.precision.inverse(), covariance[:2, :2] - across @ across.T / covariance[2, 2])
    assert some.mean.tolist() == [1.0, 2.0]


def test_a_loss_without_a_least_value_has_no_posterior() -> None:
    with pytest.raises(ValueError, match="no mode of 2 weights was found in 500 steps"):
        laplace(lambda w: w.exp().sum(), torch.zeros(2))
