"""The best that can be had: the tilt q(x) = p(x) exp(r(x) / beta) / Z of a base density p by a reward r.

It has the largest E_q[r] - beta KL(q || p) of all densities, and so, of all densities no further from p than it is, the
largest reward: over all beta it draws the frontier of reward and KL.

Source: Donsker and Varadhan's variational formula; as the optimum of post-training, DPO, arXiv:2305.18290, eq. 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Normal(NamedTuple):
    """N(mean, covariance) over vectors."""

    mean: Float[Tensor, " dim"]
    covariance: Float[Tensor, "dim dim"]


class Quadratic(NamedTuple):
    """The reward r(x) = linear . x - x' curvature x / 2; `curvature` is symmetric and not negative."""

    linear: Float[Tensor, " dim"]
    curvature: Float[Tensor, "dim dim"]

    def __call__(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Return r of every row."""
        return x @ self.linear - ((x @ self.curvature) * x).sum(1) / 2

    def mean(self, normal: Normal) -> Float[Tensor, ""]:
        """Return E[r] = r(mean) - tr(curvature covariance) / 2."""
        return self(normal.mean[None])[0] - (self.curvature * normal.covariance).sum() / 2


def normal_kl(q: Normal, p: Normal) -> Float[Tensor, ""]:
    """Return KL(q || p) = (tr(P^-1 Q) + d' P^-1 d - dim + log det P - log det Q) / 2 in nats, d = mean_q - mean_p."""
    d = q.mean - p.mean
    both = torch.linalg.solve(p.covariance, torch.cat([q.covariance, d[:, None]], 1))
    inside = both[:, :-1].trace() + d @ both[:, -1] - len(d)
    return (inside + torch.logdet(p.covariance) - torch.logdet(q.covariance)) / 2


def normal_tilt(p: Normal, reward: Quadratic, beta: float) -> Normal:
    """Return the tilt of a Gaussian by a quadratic: precision P^-1 + C / beta, precision x mean P^-1 m + a / beta."""
    precision = torch.linalg.inv(p.covariance)
    tilted = torch.linalg.inv(precision + reward.curvature / beta)
    return Normal(tilted @ (precision @ p.mean + reward.linear / beta), tilted)


def discrete_tilt(p: Float[Tensor, " modes"], reward: Float[Tensor, " modes"], beta: float) -> Float[Tensor, " modes"]:
    """Return the tilt of mode weights: p_k exp(r_k / beta), normalised."""
    return torch.softmax(p.log() + reward / beta, 0)


def discrete_kl(q: Float[Tensor, " modes"], p: Float[Tensor, " modes"]) -> Float[Tensor, ""]:
    """Return KL(q || p) = sum_k q_k log(q_k / p_k) in nats; q_k = 0 counts 0."""
    return (torch.special.xlogy(q, q) - torch.special.xlogy(q, p)).sum()


def frontier(kl: float, tilt_kl: Callable[[float], float], tilt_reward: Callable[[float], float]) -> float:
    """Return the largest mean reward within `kl` nats of the base: that of the tilt whose KL is `kl`.

    KL falls as beta grows, and beta is found by bisection of its logarithm. Where no tilt is that far away (a reward
    that is constant on its maximum), it is the reward at beta = 1e-6.
    """
    low, high = math.log(1e-6), math.log(1e6)
    if tilt_kl(math.exp(low)) <= kl:
        return tilt_reward(math.exp(low))
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if tilt_kl(math.exp(middle)) > kl else (low, middle)
    return tilt_reward(math.exp(high))
