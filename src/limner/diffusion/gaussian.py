"""The isotropic Gaussian of one denoising decision, with ratios that survive a million dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from limner.diffusion.shape import latent_sum, over_latent, widen

Weight: TypeAlias = Float[Tensor, "batch *#latent"]
"""How often each element of a latent counts, with mean 1; an axis of length 1 is alike along it."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, std^2 I), one per sample; std = 0 is a deterministic decision, which has a sample but no density.

    What a sampler recorded has a second axis, the steps, in both; it is scored row by row (`Decisions`).

    Densities, ratios and divergences are in nats, summed over the latent, and computed in float32 (float64 for float64
    inputs). They raise ValueError if any std is not positive: on a CPU, for on a card nobody waits to look.
    """

    mean: Float[Tensor, "batch *latent"]
    std: Float[Tensor, "batch *steps"]

    def sample(self, noise: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch *latent"]:
        """Return mean + std noise for standard normal `noise`."""
        return widen(self.mean) + over_latent(self.std, noise) * noise

    def noise_of(self, choice: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch *latent"]:
        """Return the noise of which `sample` makes `choice`."""
        self._require_density()
        return (widen(choice) - widen(self.mean)) / over_latent(self.std, choice)

    def log_prob(self, choice: Float[Tensor, "batch *latent"]) -> Float[Tensor, " batch"]:
        """Return log N(choice; mean, std^2 I) = -|choice - mean|^2 / (2 std^2) - D log(std sqrt(2 pi)), in nats.

        Do not subtract two of these to get a ratio: `log_ratio` does that without the cancellation.
        """
        z = self.noise_of(choice)
        return -latent_sum(z**2) / 2 - self._size * (self.std.log() + math.log(2 * math.pi) / 2)

    def log_ratio(
        self, old: Gaussian, choice: Float[Tensor, "batch *latent"], weight: Weight | None = None
    ) -> Float[Tensor, " batch"]:
        """Return log N(choice; self) - log N(choice; old) in nats, in difference form.

        With a `weight` of mean 1 each element's share of it counts so often, here and in the other ratios.

        With d = mean - mean_old, e = choice - mean_old, u = std_old^2 / std^2 - 1:

            log_ratio = sum d (e - d/2) / std^2 - u/2 sum((e / std_old)^2 - 1) + D/2 (log(1 + u) - u)

        Every term vanishes with d and u, so equal Gaussians give exactly 0; with equal std only the first is left. The
        difference of two log-probabilities loses some 0.01 nat in float32 at D = 65,536, 0.1 at a million; this form
        loses 1e-7 of its value.
        """
        self._require_density()
        old._require_density()
        d, e = widen(self.mean) - widen(old.mean), widen(choice) - widen(old.mean)
        u = _variance_excess(old.std, self.std)
        moved = d * (e - d / 2) / over_latent(self.std, d) ** 2
        widened = over_latent(u / 2, d) * ((e / over_latent(old.std, d)) ** 2 - 1)
        return _total(moved - widened, weight) + self._size / 2 * (u.log1p() - u)

    def kl(self, other: Gaussian) -> Float[Tensor, " batch"]:
        """Return KL(self || other) = |mean - mean'|^2 / (2 std'^2) + D/2 (u - log(1 + u)), in nats.

        u = std^2 / std'^2 - 1. Exact. Two policies over one dynamics share their std, and only the first term is left.
        Source: Flow-GRPO, arXiv:2505.05470, its KL penalty, there written in velocities.
        """
        self._require_density()
        other._require_density()
        u = _variance_excess(self.std, other.std)
        z = (widen(self.mean) - widen(other.mean)) / over_latent(other.std, self.mean)
        return latent_sum(z**2) / 2 + self._size / 2 * (u - u.log1p())

    def normalised_log_ratio(
        self, old: Gaussian, choice: Float[Tensor, "batch *latent"], weight: Weight | None = None
    ) -> Float[Tensor, " batch"]:
        """Return sum (mean - mean_old) noise, with the noise (choice - mean_old) / std_old that was drawn.

        For equal std it is std (log_ratio + KL(old || self)): its mean over the noise is 0 and its spread that of the
        means alone, the same at every step of a trajectory, where log_ratio has mean -KL and spread 1 / std.
        Source: GRPO-Guard, arXiv:2510.22319, its ratio normalisation, per sample.
        """
        old._require_density()
        d, e = widen(self.mean) - widen(old.mean), widen(choice) - widen(old.mean)
        return _total(d * e / over_latent(old.std, d), weight)

    def distance_ratio(
        self, old: Gaussian, choice: Float[Tensor, "batch *latent"], weight: Weight | None = None
    ) -> Float[Tensor, " batch"]:
        """Return |choice - mean_old|^2 - |choice - mean|^2, in squared units of the latent, in difference form.

        For equal std it is 2 std^2 times log_ratio: without the density's own scale a step counts as much as its noise.
        Source: Flow-CPS, arXiv:2509.05952, published code, whose log-probability is minus the squared distance.
        """
        d, e = widen(self.mean) - widen(old.mean), widen(choice) - widen(old.mean)
        return _total(d * (2 * e - d), weight)

    @property
    def _size(self) -> int:
        return self.mean.shape[1:].numel()

    def _require_density(self) -> None:
        if self.std.device.type != "cpu":  # to look would be to wait for all that it was told
            return
        if not bool((self.std > 0).all()):
            raise ValueError(
                f"a Gaussian with std {self.std.min().item():g} has no density: deterministic decisions (ODE steps, "
                "steps outside a window, a last step to t = 0) must be left out of log-probabilities, ratios and KL"
            )


def _total(x: Float[Tensor, "batch *latent"], weight: Weight | None) -> Float[Tensor, " batch"]:
    return latent_sum(x if weight is None else weight * x)


def _variance_excess(std: Float[Tensor, " batch"], other: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Return std^2 / other^2 - 1 without cancellation."""
    return (std - other) * (std + other) / other**2
