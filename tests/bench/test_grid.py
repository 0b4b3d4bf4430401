"""Backward induction on a grid against what is exact for affine policies, and against samples for others."""

from __future__ import annotations

import pytest
import torch

from limner.bench import exact, grid
from limner.diffusion.dynamics import DDIM, FlowSDE
from limner.worlds.oracle.world import WORLDS
from oracle_case import QUADRATIC, policy


@pytest.mark.parametrize(("name", "dynamics"), [("o2", FlowSDE()), ("o2-noise", DDIM())], ids=["flow", "noise"])
def test_on_affine_policies_it_is_what_the_riccati_recursion_and_the_path_say(name, dynamics):
    with torch.no_grad():
        moved, base = (policy(name, dynamics, moved=moved, steps=6) for moved in (0.05, 0.0))
        chains = exact.steps(moved), exact.steps(base)
        expected = float(QUADRATIC.mean(exact.drawn(chains[0])) - 0.3 * exact.path_kl(*chains))
        best = float(exact.best_objective(chains[1], QUADRATIC, 0.3))
        ground = grid.objective(base, base, QUADRATIC, 0.3)
        assert ground == pytest.approx(float(QUADRATIC.mean(exact.drawn(chains[1]))), abs=2e-3)
        assert grid.objective(moved, base, QUADRATIC, 0.3) == pytest.approx(expected, abs=2e-3)
        assert grid.best_objective(base, QUADRATIC, 0.3) - ground == pytest.approx(best - ground, rel=0.01)
        assert best - ground > 0.5


def test_between_modes_it_is_the_mean_over_samples():
    """20,000 paths of a bent policy, their rewards and the KL of each of their steps."""
    with torch.no_grad():
        bent, base = (policy("o3", FlowSDE(), moved=moved, steps=6) for moved in (0.15, 0.0))
        noise = torch.randn(20_000, 7, 2, generator=torch.Generator().manual_seed(0)).double()
        x, cost = noise[:, 0], torch.zeros(20_000).double()
        for i in range(6):
            mine, theirs = exact.transitions(bent, x)[i], exact.transitions(base, x)[i]
            if i < 5:
                cost += (mine.mean - theirs.mean).square().sum(1) / (2 * mine.std**2)
            x = mine.mean + mine.std[:, None] * noise[:, i + 1]
        value = WORLDS["o3"].score(x).double() - 0.3 * cost
        found = grid.objective(bent, base, lambda x: WORLDS["o3"].score(x).double(), 0.3)
    assert abs(found - value.mean()) < 4 * value.std() / 20_000**0.5
    assert cost.mean() > 0.1


def test_with_memoryless_noise_and_small_steps_the_best_approaches_the_terminal_tilt():
    """It cannot exceed kl_weight log E exp(r / kl_weight), and half the step leaves some six tenths of what lacks."""
    reward = torch.as_tensor(WORLDS["o3"].reward).double()
    tilt = 0.3 * float((WORLDS["o3"].base.weights.double() @ torch.exp(reward / 0.3)).log())
    with torch.no_grad():
        bases = [policy("o3", FlowSDE(noise_level=2**0.5), moved=0.0, steps=steps) for steps in (10, 20)]
        coarse, fine = (grid.best_objective(base, lambda x: WORLDS["o3"].score(x).double(), 0.3) for base in bases)
    assert coarse < fine < tilt and tilt - fine < 0.65 * (tilt - coarse) < 0.06
