"""Tilts against their definition, summed over a fine grid of the plane."""

from __future__ import annotations

import math

import pytest
import torch

from limner.objectives.tilt import (
    Normal,
    Quadratic,
    discrete_kl,
    discrete_tilt,
    frontier,
    normal_kl,
    normal_tilt,
)

BASE = Normal(torch.tensor([0.3, -0.2]).double(), torch.tensor([[0.8, 0.2], [0.2, 0.5]]).double())
REWARD = Quadratic(torch.tensor([1.2, -0.5]).double(), torch.tensor([[1.0, 0.3], [0.3, 0.5]]).double())
LINEAR = Quadratic(REWARD.linear, torch.zeros(2, 2).double())


def grid():
    axis = torch.linspace(-9, 9, 721, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), float(axis[1] - axis[0]) ** 2


def density(normal, x):
    return torch.distributions.MultivariateNormal(normal.mean, normal.covariance).log_prob(x)


@pytest.mark.parametrize("reward", [REWARD, LINEAR], ids=["quadratic", "linear"])
@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_the_tilt_of_a_gaussian_is_its_definition(reward, beta):
    x, cell = grid()
    log_q = density(BASE, x) + reward(x) / beta
    q = (log_q - (log_q.logsumexp(0) + math.log(cell))).exp()
    tilt = normal_tilt(BASE, reward, beta)
    torch.testing.assert_close(density(tilt, x).exp(), q, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(normal_kl(tilt, BASE), (q * (q.clamp(min=1e-300).log() - density(BASE, x))).sum() * cell)
    torch.testing.assert_close(reward.mean(tilt), (q * reward(x)).sum() * cell)


def test_the_tilt_of_o1_is_the_shift_by_a_over_beta():
    tilt = normal_tilt(Normal(torch.zeros(2).double(), torch.eye(2).double()), LINEAR, 0.25)
    torch.testing.assert_close(tilt.mean, LINEAR.linear / 0.25)
    torch.testing.assert_close(tilt.covariance, torch.eye(2).double())


def test_modes():
    p, reward = torch.tensor([0.4, 0.2, 0.3, 0.1]).double(), torch.tensor([0.0, 1.0, 1.0, 0.5]).double()
    q = discrete_tilt(p, reward, 0.5)
    by_hand = [0.4, 0.2 * 7.38905609893065, 0.3 * 7.38905609893065, 0.1 * 2.718281828459045]
    torch.testing.assert_close(q, torch.tensor(by_hand).double() / sum(by_hand))
    torch.testing.assert_close(discrete_kl(q, p), sum(a * (a / b).log() for a, b in zip(q, p, strict=True)))
    torch.testing.assert_close(
        discrete_kl(torch.tensor([0.0, 1.0, 0.0, 0.0]).double(), p), torch.tensor(0.2).double().log().neg()
    )


@pytest.mark.parametrize("kl", [0.05, 0.7, 3.0])
def test_nothing_within_a_distance_has_more_reward_than_the_frontier(kl):
    """For a linear reward the frontier is E_p[r] + sqrt(2 KL a' P a); and random densities stay below it."""
    found = frontier(
        kl,
        lambda beta: float(normal_kl(normal_tilt(BASE, LINEAR, beta), BASE)),
        lambda beta: float(LINEAR.mean(normal_tilt(BASE, LINEAR, beta))),
    )
    most = LINEAR.mean(BASE) + (2 * kl * LINEAR.linear @ BASE.covariance @ LINEAR.linear).sqrt()
    assert found == pytest.approx(float(most), rel=1e-9)
    p, reward = torch.tensor([0.4, 0.2, 0.3, 0.1]).double(), torch.tensor([0.0, 1.0, 1.0, 0.5]).double()
    best = frontier(
        kl,
        lambda beta: float(discrete_kl(discrete_tilt(p, reward, beta), p)),
        lambda beta: float(discrete_tilt(p, reward, beta) @ reward),
    )
    others = torch.distributions.Dirichlet(torch.ones(4).double() / 2).sample((20_000,))
    near = [float(q @ reward) for q in others if discrete_kl(q, p) <= kl]
    assert best - 0.1 < max(near) <= best + 1e-9


def test_where_the_best_is_near_the_frontier_is_the_best():
    """All weight on the rewarded half is log 2 away; nothing gains more beyond."""
    p, reward = torch.ones(2).double() / 2, torch.tensor([0.0, 3.0]).double()
    kl, gain = (
        lambda beta: float(discrete_kl(discrete_tilt(p, reward, beta), p)),
        lambda beta: float(discrete_tilt(p, reward, beta) @ reward),
    )
    assert frontier(5.0, kl, gain) == pytest.approx(3.0)
    assert frontier(0.0, kl, gain) == pytest.approx(1.5, abs=1e-5)
