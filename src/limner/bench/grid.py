"""What a policy over the plane is worth by its own objective, and the most that any policy is, by backward induction.

The objective is E[r] - kl_weight sum_i E KL(step i || base's step i), as in `limner.bench.exact.best_objective`, for
denoisers that are not affine: values of states are kept on a grid, and noise is integrated there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from limner.bench.exact import transitions
from limner.policies.denoising import Denoising

WIDTH, POINTS = 5.0, 401
"""The grid: POINTS lines on each axis from -WIDTH to WIDTH; states beyond count as those at its edge."""

Reward: TypeAlias = Callable[[Float[Tensor, "batch 2"]], Float[Tensor, " batch"]]
Values: TypeAlias = Float[Tensor, "points points"]


def objective(policy: Denoising, base: Denoising, reward: Reward, kl_weight: float) -> float:
    """Return E[r] - kl_weight sum_i E KL of a policy over the plane.

    With x' ~ N(m(x), std^2 I), the value of a state is V(x) = E V'(x') - kl_weight |m(x) - m_base(x)|^2 / (2 std^2).
    """
    mine, theirs = transitions(policy, _states()), transitions(base, _states())
    value = reward(mine[-1].mean).view(POINTS, POINTS)
    for step, other in zip(reversed(mine[:-1]), reversed(theirs[:-1]), strict=True):
        std = float(step.std[0])
        moved = (step.mean - other.mean).square().sum(1) / (2 * std**2)
        value = _at(_smooth(value, std), step.mean) - kl_weight * moved.view(POINTS, POINTS)
    return _mean_over_noise(value)


def best_objective(base: Denoising, reward: Reward, kl_weight: float) -> float:
    """Return the most that `objective` is, over all means of the stochastic steps.

    V(x) = max_m E V'(N(m, std^2 I)) - kl_weight |m - m_base(x)|^2 / (2 std^2), the maximum taken on the grid, one axis
    after the other.
    """
    chain = transitions(base, _states())
    value = reward(chain[-1].mean).view(POINTS, POINTS)
    for step in reversed(chain[:-1]):
        std = float(step.std[0])
        price = kl_weight * (_axis()[:, None] - _axis()).square() / (2 * std**2)
        envelope = _smooth(value, std)
        for _ in range(2):
            envelope = torch.stack([(envelope - row[:, None]).amax(0) for row in price], 1)
        value = _at(envelope, step.mean)
    return _mean_over_noise(value)


def _axis() -> Float[Tensor, " points"]:
    return torch.linspace(-WIDTH, WIDTH, POINTS, dtype=torch.float64)


def _states() -> Float[Tensor, "states 2"]:
    return torch.cartesian_prod(_axis(), _axis())


def _gaussian(std: float) -> Values:
    """Return the weights by which each point of an axis sees the others, through noise."""
    weights = torch.exp(-((_axis()[:, None] - _axis()) ** 2) / (2 * std**2))
    return weights / weights.sum(1, keepdim=True)


def _smooth(value: Values, std: float) -> Values:
    """Return E value(m + std n) for each point m of the grid."""
    kernel = _gaussian(std)
    return kernel @ value @ kernel.T


def _at(value: Values, x: Float[Tensor, "states 2"]) -> Values:
    """Return the values at x, linear between the points of the grid."""
    place = (x / WIDTH).flip(1).view(1, POINTS, POINTS, 2)
    return grid_sample(value[None, None], place, padding_mode="border", align_corners=True)[0, 0]


def _mean_over_noise(value: Values) -> float:
    """Return the mean over N(0, I), with which sampling begins."""
    weights = _gaussian(1.0)[POINTS // 2]
    return float(weights @ value @ weights)
