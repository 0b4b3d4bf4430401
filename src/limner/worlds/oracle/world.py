"""Three densities over the plane, each with a reward whose tilt (`limner.objectives.tilt`) is known in closed form.

    o1  Gaussian tilt    p = N(0, I), r = a . x             the best is N(a / beta, I)
    o2  quadratic tilt   p = N(0, I), r = a . x - x' C x / 2    the best is a Gaussian that has moved and shrunk
    o3  mixture tilt     four narrow modes, r that of the nearest one    the best has mode weights pi_k exp(r_k / beta)

Two modes of o3 share the highest reward, so that a method which keeps only one of them is seen to collapse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.transfer import sent
from limner.core.types import Prompt
from limner.diffusion.prediction import Estimate
from limner.diffusion.shape import over_latent
from limner.objectives.tilt import Quadratic


@dataclass(frozen=True, eq=False)
class Mixture:
    """sum_k weight_k N(mean_k, std^2 I)."""

    weights: Float[Tensor, " modes"]
    means: Float[Tensor, "modes dim"]
    std: float

    def estimate(
        self, x: Float[Tensor, "batch dim"], alpha: Float[Tensor, " batch"], sigma: Float[Tensor, " batch"]
    ) -> Estimate:
        """Return E[x0 | x] and E[noise | x] for x = alpha x0 + sigma noise, what a perfect network predicts.

        Given its mode, x0 and x are jointly Gaussian: E[x0 | x, k] = m_k + alpha std^2 / v (x - alpha m_k) with
        v = alpha^2 std^2 + sigma^2, the variance of x; modes are weighed by their posterior.
        """
        weights, means = (sent(each, x.device).to(x) for each in (self.weights, self.means))
        a, variance = over_latent(alpha, x)[:, None], over_latent(alpha**2 * self.std**2 + sigma**2, x)[:, None]
        away = x[:, None] - a * means
        posterior = torch.softmax(weights.log() - (away**2 / variance).sum(2) / 2, 1)
        x0 = (posterior[:, :, None] * (means + a * self.std**2 / variance * away)).sum(1)
        return Estimate(x0, (x - over_latent(alpha, x) * x0) / over_latent(sigma, x))

    def nearest(self, x: Float[Tensor, "batch dim"]) -> Int[Tensor, " batch"]:
        """Return the mode whose mean is nearest."""
        return torch.cdist(x, self.means.to(x)).argmin(1)


@dataclass(frozen=True, eq=False)
class World:
    """A base density, and a reward: a quadratic of x, or a value for each of the base's modes."""

    base: Mixture
    reward: Quadratic | Float[Tensor, " modes"]

    def score(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Return the reward of every sample."""
        if isinstance(self.reward, Quadratic):
            return Quadratic(*(part.to(x) for part in self.reward))(x)
        return self.reward.to(x)[self.base.nearest(x)]


def _standard(linear: Sequence[float], curvature: Sequence[Sequence[float]]) -> World:
    normal = Mixture(torch.ones(1), torch.zeros(1, 2), 1.0)
    return World(normal, Quadratic(torch.tensor(linear), torch.tensor(curvature)))


WORLDS = {
    "o1": _standard([1.0, 0.5], [[0.0, 0.0], [0.0, 0.0]]),
    "o2": _standard([1.2, -0.5], [[1.0, 0.3], [0.3, 0.5]]),
    "o3": World(
        Mixture(
            torch.tensor([0.4, 0.2, 0.3, 0.1]),
            torch.tensor([[-2.0, -2.0], [2.0, -2.0], [-2.0, 2.0], [2.0, 2.0]]),
            0.3,
        ),
        torch.tensor([0.0, 1.0, 1.0, 0.5]),
    ),
}


def prompts(split: str) -> list[Prompt]:
    """Return the one prompt there is: these generators are not asked for anything."""
    return [Prompt("a point")]
