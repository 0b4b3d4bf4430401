"""Exact densities against closed forms, against each other, and against samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from limner.bench import exact
from limner.core.rng import Rng
from limner.diffusion.dynamics import CPS, DDIM, EulerODE, FlowSDE
from oracle_case import LINEAR, QUADRATIC, policy


def draw(policy, count):
    index = torch.zeros(count, dtype=torch.long)
    single = replace(policy, model=policy.model.with_networks({"residual": policy.model.networks["residual"].float()}))
    with torch.no_grad():
        return single.sample(
            {"nothing": torch.zeros(2)}, index, index, torch.arange(count), rng=Rng(("draw",)), record=False
        ).sample


@pytest.mark.parametrize(
    ("name", "dynamics"),
    [("o1", FlowSDE()), ("o2", CPS()), ("o1", EulerODE()), ("o1-noise", DDIM())],
    ids=["flow-sde", "cps", "ode", "ddim"],
)
def test_an_affine_policy_draws_the_gaussian_that_is_computed(name, dynamics):
    sampler = policy(name, dynamics)
    with torch.no_grad():
        normal = exact.drawn(exact.steps(sampler))
    sample = draw(sampler, 4000).double()
    error = normal.covariance.diagonal().sqrt() / 4000**0.5
    assert ((sample.mean(0) - normal.mean).abs() < 4 * error).all()
    spread = torch.outer(normal.covariance.diagonal().sqrt(), normal.covariance.diagonal().sqrt())
    assert ((sample.T.cov() - normal.covariance).abs() < 4 * spread * (2 / 4000) ** 0.5).all()


@pytest.mark.parametrize("name", ["o1", "o1-noise"])
def test_change_of_variables_gives_the_gaussian_density(name):
    moved, base = policy(name), policy(name, moved=0.0)
    sample, log_density = exact.push(moved, torch.randn(500, 2, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        for ode in (moved, base):
            normal = exact.drawn(exact.steps(ode))
            expected = torch.distributions.MultivariateNormal(normal.mean, normal.covariance).log_prob(sample)
            torch.testing.assert_close(exact.log_density(ode, sample), expected)
    torch.testing.assert_close(log_density, exact.log_density(moved, sample))


def test_backwards_is_the_inverse_of_forwards_between_modes_too():
    bent = policy("o3", moved=0.02, steps=10)
    sample, log_density = exact.push(bent, torch.randn(200, 2, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(exact.log_density(bent, sample), log_density, rtol=1e-6, atol=1e-6)


def test_a_density_integrates_to_one():
    bent = policy("o3", moved=0.0, steps=4)
    axis = torch.linspace(-4, 4, 121).double()
    total = exact.log_density(bent, torch.cartesian_prod(axis, axis)).exp().sum() * (axis[1] - axis[0]) ** 2
    assert total.item() == pytest.approx(1, rel=0.02)


def test_path_divergence_is_the_mean_of_the_recorded_log_ratios():
    mine, other = policy(dynamics=FlowSDE(), moved=0.05), policy(dynamics=FlowSDE(), moved=0.0)
    with torch.no_grad():
        expected = exact.path_kl(exact.steps(mine), exact.steps(other))
        noise = torch.randn(40_000, 6, 2, generator=torch.Generator().manual_seed(0)).double()
        x, ratio = noise[:, 0], torch.zeros(40_000).double()
        for i, (a, b) in enumerate(zip(exact.steps(mine)[:-1], exact.steps(other)[:-1], strict=True)):
            means = [x @ step.matrix.T + step.shift for step in (a, b)]
            x = means[0] + a.std * noise[:, i + 1]
            ratio += ((x - means[1]).square() - (x - means[0]).square()).sum(1) / (2 * a.std**2)
    assert abs(ratio.mean() - expected) < 4 * ratio.std() / 40_000**0.5
    assert exact.path_kl(exact.steps(other), exact.steps(other)) == 0


def test_the_best_objective_of_a_linear_reward_is_that_of_the_tilt_of_each_start():
    """w E_x log E[exp(r / w) | x] = E[r] + a' P a / (2 w), P the covariance that the steps add to that of the start."""
    with torch.no_grad():
        chain = exact.steps(policy("o1", FlowSDE(), moved=0.05))
        normal = exact.drawn(chain)
        through = torch.linalg.multi_dot([step.matrix for step in reversed(chain)])
        added = normal.covariance - through @ through.T
    expected = LINEAR.mean(normal) + LINEAR.linear @ added @ LINEAR.linear / (2 * 0.4)
    torch.testing.assert_close(exact.best_objective(chain, LINEAR, 0.4), expected)
    assert through.norm() > 0.1


def test_the_best_objective_is_what_a_search_over_all_steps_finds():
    """Gradient ascent on the mean of every step, as an affine function of its state, for a quadratic reward."""
    with torch.no_grad():
        chain = exact.steps(policy("o2", FlowSDE(), moved=0.05, steps=4))
    moves = [torch.zeros(2, 3).double().requires_grad_(True) for _ in chain[:-1]]
    search = torch.optim.LBFGS(moves, max_iter=300, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss():
        search.zero_grad()
        mine = [
            replace(step, matrix=step.matrix + move[:, :2], shift=step.shift + move[:, 2])
            for step, move in zip(chain[:-1], moves, strict=True)
        ]
        cost = 0.3 * exact.path_kl([*mine, chain[-1]], chain) - QUADRATIC.mean(exact.drawn([*mine, chain[-1]]))
        cost.backward()
        return cost

    start = -float(loss())
    search.step(loss)
    best = float(exact.best_objective(chain, QUADRATIC, 0.3))
    assert start + 0.1 < best == pytest.approx(-float(loss()), rel=1e-6)
