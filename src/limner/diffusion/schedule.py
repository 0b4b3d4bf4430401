"""Noise schedules on one time axis: t = 0 is data, t = 1 the noisiest point; x_t = alpha(t) x0 + sigma(t) noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.diffusion.shape import over_latent


@runtime_checkable
class Schedule(Protocol):
    """What a schedule is: the weights of data and of noise at time t."""

    def alpha(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the weight of the clean latent, alpha(0) = 1."""
        ...

    def sigma(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the weight of the noise, sigma(0) = 0."""
        ...


@dataclass(frozen=True)
class RectifiedFlow:
    """The straight line from data to noise: alpha = 1 - t, sigma = t.

    Source: SD3, arXiv:2403.03206, eq. 13. diffusers calls t "sigma", and 1000 t "timestep".
    """

    def alpha(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return 1 - t."""
        return 1 - t

    def sigma(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return t."""
        return t


@dataclass(frozen=True)
class TrigFlow:
    """The quarter circle from data to noise: alpha = cos(pi t / 2), sigma = sin(pi t / 2), so alpha^2 + sigma^2 = 1.

    A network's v-prediction, alpha noise - sigma x0, is the speed of x along the angle.

    Source: sCM, arXiv:2410.11081, section 3; SANA-Sprint, arXiv:2503.09641. Their own time is the angle, pi t / 2.
    """

    def angle(self, t: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Return pi t / 2."""
        return t * (math.pi / 2)

    def alpha(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return cos(pi t / 2); no rounding makes it negative at t = 1."""
        return self.angle(t).cos().clamp(min=0)

    def sigma(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return sin(pi t / 2)."""
        return self.angle(t).sin()


@dataclass(frozen=True, eq=False)
class VariancePreserving:
    """The DDPM chain: alpha = sqrt(alphas_cumprod), sigma = sqrt(1 - alphas_cumprod), so alpha^2 + sigma^2 = 1.

    A chain of T noise levels has the times t = (index + 1) / T: index T - 1 is t = 1, index 0 is t = 1 / T, and
    t = 0 is clean data (diffusers' `set_alpha_to_one`; a grid without it, as SD 1.5's, ends at t = 1 / T instead).
    A time between two levels means the nearest one.

    Source: DDPM, arXiv:2006.11239, eq. 4; `alphas_cumprod` is the table of any diffusers DDPM or DDIM scheduler.
    """

    alphas_cumprod: Float[Tensor, " levels"]

    def index(self, t: Float[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return the network's own index, round(t T) - 1; -1 is clean data, which no network is asked about."""
        return (t * len(self.alphas_cumprod)).round().long() - 1

    def time(self, index: Int[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Return t = (index + 1) / T in float32, the exact inverse of `index`."""
        return (index + 1) / len(self.alphas_cumprod)

    def alpha(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return sqrt(alphas_cumprod[index(t)]), and 1 at t = 0."""
        return self._cumprod(t).sqrt()

    def sigma(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return sqrt(1 - alphas_cumprod[index(t)]), and 0 at t = 0."""
        return (1 - self._cumprod(t)).sqrt()

    def _cumprod(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        clean = self.alphas_cumprod.new_ones(1)
        known = torch.cat([clean, self.alphas_cumprod])
        return known.to(t.device, t.dtype, non_blocking=t.is_cuda)[self.index(t) + 1]


def add_noise(
    schedule: Schedule,
    x0: Float[Tensor, "batch *latent"],
    noise: Float[Tensor, "batch *latent"],
    t: Float[Tensor, " batch"],
) -> Float[Tensor, "batch *latent"]:
    """Return x_t = alpha(t) x0 + sigma(t) noise."""
    return over_latent(schedule.alpha(t), x0) * x0 + over_latent(schedule.sigma(t), noise) * noise
