import numpy as np
import pytest
import torch

from limner.objectives.matching import matching_log_likelihood, nft_loss, nft_reward_weight, velocity_mse

SHAPES = [(), (3,), (2, 3), (2, 3, 4), (2, 1, 3, 2), (2, 1, 3, 2, 2)]


def draw(*size, seed=0):
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def published(velocity, old, x_t, x0, t, r, beta, a_max, weights=None):
    """One sample of DiffusionNFT as it is written, in velocities: its loss and its two adaptive weights."""
    losses, used = [], []
    for i, sign in enumerate((1, -1)):
        mixed = old + sign * beta * (velocity - old)
        error = x_t - t * mixed - x0
        used.append(max(np.abs(error).mean(), 1e-5) if weights is None else weights[i])
        losses.append(np.square(error).mean() / used[-1])
    return a_max / beta * (r * losses[0] + (1 - r) * losses[1]), used


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_nft_loss_is_the_published_one(beta, shape):
    velocity, old, x0, noise = draw(4, 3, *shape)
    t, r = torch.tensor([[0.2, 0.7, 1.0], [0.0, 0.3, 1.0]], dtype=torch.float64)
    wide = t.reshape(3, *(1,) * len(shape))
    x_t = (1 - wide) * x0 + wide * noise
    loss = nft_loss(x_t - wide * velocity, x_t - wide * old, x0, r, beta=beta, advantage_max=5.0)
    assert loss.shape == (3,)
    for i in range(3):
        arrays = [part[i].numpy() for part in (velocity, old, x_t, x0)]
        expected, _ = published(*arrays, t=t[i].item(), r=r[i].item(), beta=beta, a_max=5.0)
        assert loss[i].item() == pytest.approx(expected)


def test_nft_gradient_agrees_with_finite_differences_at_frozen_weights():
    velocity, old, x0, noise = (x[0] for x in draw(4, 1, 7, seed=1))
    t, r, beta = 0.6, 0.8, 0.5
    x_t = (1 - t) * x0 + t * noise
    leaf = velocity.clone().requires_grad_()
    loss = nft_loss((x_t - t * leaf)[None], (x_t - t * old)[None], x0[None], torch.tensor([r]).double(), beta=beta)
    loss.sum().backward()
    fixed = (old.numpy(), x_t.numpy(), x0.numpy(), t, r, beta, 5.0)
    _, weights = published(velocity.numpy(), *fixed)
    for i in range(7):
        nudge = np.eye(7)[i] * 1e-5
        up, down = (published(velocity.numpy() + sign * nudge, *fixed, weights)[0] for sign in (1, -1))
        assert leaf.grad[i].item() == pytest.approx((up - down) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_unweighted_nft_gradient_agrees_with_finite_differences(shape):
    x0_hat, old, x0 = draw(3, 2, *shape, seed=2)
    r = torch.tensor([0.9, 0.2], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: nft_loss(x, old, x0, r, beta=0.3, adaptive=False), (x0_hat.requires_grad_(),)
    )


@pytest.mark.parametrize("r", [0.0, 0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_nft_optimum_moves_the_old_velocity_along_the_reward(r, beta):
    """For unit weights v* = v_old + (2 r - 1) (v_target - v_old) / beta: there, and only there, the gradient is 0."""
    old, x0, noise = draw(3, 1, 5, seed=3)
    t = 0.4
    x_t, target = (1 - t) * x0 + t * noise, noise - x0
    best = (old + (2 * r - 1) * (target - old) / beta).requires_grad_()

    def loss(velocity):
        weight = torch.tensor([r], dtype=torch.float64)
        return nft_loss(x_t - t * velocity, x_t - t * old, x0, weight, beta=beta, adaptive=False).sum()

    loss(best).backward()
    assert best.grad.abs().max() < 1e-10
    for seed in range(5):
        assert loss(best + 0.1 * draw(1, 5, seed=seed)) > loss(best)


def test_a_neutral_sample_leaves_the_old_policy_alone():
    old, x0 = draw(2, 4, 6, seed=4)
    r = nft_reward_weight(torch.zeros(4, dtype=torch.float64))
    leaf = old.clone().requires_grad_()
    nft_loss(leaf, old, x0, r, beta=0.7).sum().backward()
    assert r.tolist() == [0.5] * 4
    assert leaf.grad.abs().max() < 1e-15


def test_the_old_policy_receives_no_gradient_and_perfection_no_division_by_zero():
    x0 = draw(2, 6, seed=5)
    old, new = x0.clone().requires_grad_(), x0.clone().requires_grad_()
    loss = nft_loss(new, old, x0, torch.ones(2, dtype=torch.float64), beta=1.0)
    loss.sum().backward()
    assert old.grad is None
    assert loss.tolist() == [0, 0]
    assert new.grad.tolist() == torch.zeros(2, 6).tolist()


def test_the_adaptive_weight_is_never_below_its_floor():
    x0 = torch.zeros(1, 6, dtype=torch.float64)
    loss = nft_loss(x0 + 1e-7, x0, x0, torch.ones(1, dtype=torch.float64), beta=1.0, advantage_max=1.0)
    assert loss.item() == pytest.approx(1e-14 / 1e-5)


def test_nft_follows_its_samples():
    x0_hat, old, x0 = draw(3, 5, 2, 3, seed=6)
    r, order = torch.linspace(0, 1, 5, dtype=torch.float64), torch.tensor([4, 2, 0, 1, 3])
    whole = nft_loss(x0_hat, old, x0, r, beta=0.5)
    torch.testing.assert_close(nft_loss(x0_hat[order], old[order], x0[order], r[order], beta=0.5), whole[order])


def test_reward_weight_maps_advantages_to_shares():
    advantage = torch.tensor([-9.0, -5.0, -1.0, 0.0, 2.5, 5.0, 7.0])
    assert nft_reward_weight(advantage).tolist() == pytest.approx([0, 0, 0.4, 0.5, 0.75, 1, 1])
    assert nft_reward_weight(advantage, 1.0).tolist() == pytest.approx([0, 0, 0, 0.5, 1, 1, 1])


@pytest.mark.parametrize("shape", SHAPES)
def test_velocity_mse_is_a_mean_over_the_latent(shape):
    velocity, target = draw(2, 3, *shape, seed=7)
    expected = [np.square(velocity[i].numpy() - target[i].numpy()).mean() for i in range(3)]
    assert velocity_mse(velocity, target).tolist() == pytest.approx(expected)
    assert velocity_mse(velocity.bfloat16(), target.bfloat16()).dtype == torch.float32


def test_matching_log_likelihood_by_hand():
    """Error .04 at t = .5; huber is about its root, ghuber about its fourth root times four."""
    error, t = torch.tensor([0.04], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    by_hand = {"uniform": -0.04, "t": -0.02, "t2": -0.01, "huber": -0.5 * (0.2 - 1e-5)}
    for weighting, value in by_hand.items():
        assert matching_log_likelihood(error, t, weighting).item() == pytest.approx(value, rel=1e-6)
    fourth = 0.04**0.25 - 1e-10**0.25
    assert matching_log_likelihood(error, t, "ghuber").item() == pytest.approx(-0.5 * 4 * fourth, rel=1e-6)
    half = matching_log_likelihood(error, t, "ghuber", power=0.5).item()
    assert half == pytest.approx(2 * by_hand["huber"], rel=1e-6)


@pytest.mark.parametrize("weighting", ["uniform", "t", "t2", "huber", "ghuber"])
def test_a_perfect_restoration_is_likeliest_and_has_a_finite_gradient(weighting):
    error = torch.tensor([0.0, 1e-6, 0.1, 2.0], requires_grad=True)
    value = matching_log_likelihood(error, torch.full((4,), 0.7), weighting)
    value.sum().backward()
    assert value[0] == 0 and (value.diff() < 0).all() and error.grad.isfinite().all() and (error.grad < 0).all()
