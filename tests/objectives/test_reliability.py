"""How much a group is believed: against Bayes by hand, scipy-free, and what a shift of all rewards changes."""

from __future__ import annotations

import math

import pytest
import torch

from limner.objectives.reliability import (
    contrasted,
    contrasted_as_published,
    group_moments,
    posterior_above,
    signal_share,
)

REWARDS = torch.tensor([1.0, 2.0, 4.0, 5.0, float("nan"), 3.0], dtype=torch.float64)
GROUP, VALID = torch.tensor([4, 4, 4, 9, 9, 1]), torch.tensor([True, True, True, True, False, True])


def test_moments_are_those_of_valid_samples() -> None:
    count, mean, variance = group_moments(REWARDS, GROUP, VALID)
    assert count.tolist() == [3, 3, 3, 1, 1, 1] and variance[3:].tolist() == [0, 0, 0]
    torch.testing.assert_close(mean[0], REWARDS[:3].mean())
    torch.testing.assert_close(variance[0], REWARDS[:3].var())


def test_the_posterior_is_that_of_numerical_integration() -> None:
    """prior N(R0, v0) times the likelihood of the group's mean, N(mu, s^2 / n), integrated on a grid."""
    count, mean, variance = group_moments(REWARDS, GROUP, VALID)
    prior = torch.full_like(mean, 2.0)
    found = posterior_above(count, mean, variance, prior, prior_std=1.5)
    mu = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    for i, spread in ((0, variance[0] + 1e-8), (3, 1.0)):
        density = torch.exp(-((mu - 2) ** 2) / 2 / 1.5**2 - (mean[i] - mu) ** 2 * count[i] / spread / 2)
        assert found[i].item() == pytest.approx(float(density[mu > 2].sum() / density.sum()), abs=1e-4)


def test_a_shift_changes_no_weight_and_only_the_published_transform() -> None:
    count, mean, variance = group_moments(REWARDS, GROUP, VALID)
    prior, far = torch.full_like(mean, 2.0), 1e6
    shifted = posterior_above(*group_moments(REWARDS + far, GROUP, VALID), prior + far, 1.0)
    torch.testing.assert_close(shifted, posterior_above(count, mean, variance, prior, 1.0), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        contrasted(REWARDS + far, prior + far, 0.5, 1.0), contrasted(REWARDS, prior, 0.5, 1.0), equal_nan=True
    )
    moved = contrasted_as_published(REWARDS - 6, prior - 6, 0.5, 1.0)[:4]
    assert not torch.allclose(moved, contrasted_as_published(REWARDS, prior, 0.5, 1.0)[:4], rtol=0.04)


def test_the_published_transform_is_as_coded_and_turns_negative_rewards_around() -> None:
    value = contrasted_as_published(torch.tensor([2.0]), torch.tensor([0.5]), 3.0, 4.0).item()
    assert value == pytest.approx((3 * 1.5 + 1) / (1 + math.exp(-0.5)) * 2)
    below = contrasted_as_published(torch.tensor([-1.0, -2.0]), torch.tensor([-0.5, -0.5]), 1.0, 1.0)
    assert below[1] > below[0]  # the worse of two
    rewards = torch.linspace(-3, 3, 61)
    assert (contrasted(rewards, torch.zeros(61), 0.5, 0.1).diff() > 0).all()
    sharp = contrasted(rewards, torch.full((61,), 0.05), 0.5, 1e-6)
    torch.testing.assert_close(sharp, 0.5 * (rewards - 0.05) + (rewards > 0.05).float())


def test_what_is_noise_alone_is_no_signal() -> None:
    variance = torch.tensor([0.0, 0.25, 1.0, 4.0])
    torch.testing.assert_close(signal_share(variance, torch.full((4,), 0.25)), torch.tensor([0.0, 0.0, 0.75, 0.9375]))
