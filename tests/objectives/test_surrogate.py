import math

import pytest
import torch

from limner.objectives.surrogate import clipped_surrogate, surrogate_metrics, trusted_surrogate


def case(seed=0, spread=0.3):
    log_ratio, advantage = torch.randn(2, 40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return spread * log_ratio, advantage


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.1, 0.4), (1e-4, 2e-4)])
def test_surrogate_is_ppos_pessimistic_bound(low, high):
    log_ratio, advantage = case(spread=2 * high)
    ratio = torch.exp(log_ratio)
    expected = -torch.minimum(advantage * ratio, advantage * ratio.clamp(1 - low, 1 + high))
    torch.testing.assert_close(clipped_surrogate(log_ratio, advantage, low, high), expected)


def test_gradient_agrees_with_finite_differences_inside_and_outside_the_band():
    log_ratio, advantage = case()
    log_ratio.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: clipped_surrogate(x, advantage, 0.2, 0.3), (log_ratio,))


def test_gradient_is_the_policy_gradient_at_ratio_one():
    advantage = torch.tensor([1.5, -0.5, 2.0])
    log_ratio = torch.zeros(3, requires_grad=True)
    clipped_surrogate(log_ratio, advantage, 1e-5, 1e-5).sum().backward()
    assert torch.equal(log_ratio.grad, -advantage)


def test_gradient_is_nothing_only_where_the_clip_binds():
    log_ratio = torch.tensor([0.5, 0.5, -0.5, -0.5], requires_grad=True)
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    clipped_surrogate(log_ratio, advantage, 0.2, 0.2).sum().backward()
    expected = [0, math.exp(0.5), -math.exp(-0.5), 0]
    assert log_ratio.grad.tolist() == pytest.approx(expected)
    metrics = surrogate_metrics(log_ratio, advantage, 0.2, 0.2)
    assert metrics["clip_high"].tolist() == [1, 0, 0, 0]
    assert metrics["clip_low"].tolist() == [0, 0, 0, 1]
    assert not metrics["approx_kl"].requires_grad


def test_zero_advantage_gives_zero_loss_and_gradient():
    log_ratio = case()[0].requires_grad_()
    loss = clipped_surrogate(log_ratio, torch.zeros_like(log_ratio), 0.2, 0.2)
    loss.sum().backward()
    assert loss.abs().max() == 0
    assert log_ratio.grad.abs().max() == 0


def test_an_infinite_clip_is_no_clip():
    log_ratio, advantage = case(spread=3.0)
    loss = clipped_surrogate(log_ratio, advantage, 0.0, math.inf)
    up = log_ratio > 0
    torch.testing.assert_close(loss[up], -(advantage * log_ratio.exp())[up])


def test_approx_kl_is_the_divergence_of_close_policies():
    """E over the old policy of log_ratio^2 / 2, for N(0, 1) against N(0.05, 1): the KL is 0.05^2 / 2."""
    x = torch.randn(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    log_ratio = (x**2 - (x - 0.05) ** 2) / 2
    approx_kl = surrogate_metrics(log_ratio, torch.ones_like(x), 0.2, 0.2)["approx_kl"].mean().item()
    assert approx_kl == pytest.approx(0.05**2 / 2, rel=0.02)


def test_the_trust_region_stops_what_would_leave_it():
    """Inside it, and on the way back to it, the policy gradient -A rho; beyond it and going on, nothing."""
    log_ratio = torch.tensor([0.1, 0.1, -0.1, -0.1, 0.1, -0.1], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0, -2.0], dtype=torch.float64)
    divergence = torch.tensor([5.0, 5.0, 5.0, 5.0, 0.5, 0.5], dtype=torch.float64)
    loss = trusted_surrogate(log_ratio, advantage, divergence, 1.0)
    rho = log_ratio.detach().exp()
    expected = torch.tensor([0.0, 1.0, -1.0, 0.0, -2.0, 2.0], dtype=torch.float64) * rho
    assert torch.allclose(loss, expected)
    loss.sum().backward()
    assert torch.allclose(log_ratio.grad, expected)


def test_without_pessimism_nothing_pulls_back_into_the_band():
    """DPOK's clip: outside the band, on either side and for either sign, no gradient; inside, the policy gradient."""
    log_ratio = torch.tensor([0.5, -0.5, 0.5, -0.5, 0.1], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0], dtype=torch.float64)
    loss = clipped_surrogate(log_ratio, advantage, 0.2, 0.2, pessimistic=False)
    torch.testing.assert_close(loss, -advantage * log_ratio.exp().clamp(0.8, 1.2))
    loss.sum().backward()
    assert log_ratio.grad.tolist() == pytest.approx([0, 0, 0, 0, -2 * math.exp(0.1)])
