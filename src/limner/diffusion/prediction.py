"""What a network predicts, turned into an estimate of the two things that x_t is made of: data and noise.

    kind            network output
    velocity        noise - x0                      rectified flow: SD3, FLUX, Wan
    noise           noise                           DDPM, SD 1.5, SDXL
    x0              x0
    v_prediction    alpha noise - sigma x0          progressive distillation, SD 2.1

Each kind and x_t = alpha x0 + sigma noise are two linear equations with two unknowns.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, assert_never

from jaxtyping import Float
from torch import Tensor

from limner.diffusion.schedule import Schedule
from limner.diffusion.shape import over_latent

PredictionKind: TypeAlias = Literal["velocity", "noise", "x0", "v_prediction"]


class Estimate(NamedTuple):
    """The clean latent and the noise that a network believes x_t is made of."""

    x0: Float[Tensor, "batch *latent"]
    noise: Float[Tensor, "batch *latent"]

    @property
    def velocity(self) -> Float[Tensor, "batch *latent"]:
        """noise - x0: what a rectified flow predicts, and an error that weighs data and noise alike on any schedule."""
        return self.noise - self.x0


def to_estimate(
    kind: PredictionKind,
    prediction: Float[Tensor, "batch *latent"],
    x_t: Float[Tensor, "batch *latent"],
    t: Float[Tensor, " batch"],
    schedule: Schedule,
) -> Estimate:
    """Solve `kind`'s equation and x_t = alpha x0 + sigma noise for x0 and noise.

    Source: progressive distillation, arXiv:2202.00512, appendix D (v); SD3, arXiv:2403.03206, section 2 (velocity).
    A noise prediction says nothing of x0 where alpha = 0, an x0 prediction nothing of the noise where sigma = 0: there
    the estimate is not finite.
    """
    alpha, sigma = over_latent(schedule.alpha(t), x_t), over_latent(schedule.sigma(t), x_t)
    match kind:
        case "velocity":
            return Estimate((x_t - sigma * prediction) / (alpha + sigma), (x_t + alpha * prediction) / (alpha + sigma))
        case "noise":
            return Estimate((x_t - sigma * prediction) / alpha, prediction)
        case "x0":
            return Estimate(prediction, (x_t - alpha * prediction) / sigma)
        case "v_prediction":
            norm = alpha**2 + sigma**2
            return Estimate((alpha * x_t - sigma * prediction) / norm, (sigma * x_t + alpha * prediction) / norm)
        case _:
            assert_never(kind)


def from_estimate(
    kind: PredictionKind, estimate: Estimate, t: Float[Tensor, " batch"], schedule: Schedule
) -> Float[Tensor, "batch *latent"]:
    """Return what a network of `kind` would output for `estimate`; with the true x0 and noise, its training target."""
    x0, noise = estimate
    match kind:
        case "velocity":
            return noise - x0
        case "noise":
            return noise
        case "x0":
            return x0
        case "v_prediction":
            return over_latent(schedule.alpha(t), x0) * noise - over_latent(schedule.sigma(t), x0) * x0
        case _:
            assert_never(kind)
