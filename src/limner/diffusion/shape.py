"""Per-sample scalars meet latents of any rank (0 to 5); the batch axis comes first."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def over_latent(
    scalar: Shaped[Tensor, " batch"], latent: Float[Tensor, "batch *latent"]
) -> Shaped[Tensor, "batch *one"]:
    """Give a per-sample scalar as many trailing axes of length 1 as `latent` has, so that the two broadcast."""
    return scalar.reshape(scalar.shape[0], *(1,) * (latent.ndim - 1))


def latent_sum(x: Float[Tensor, "batch *latent"]) -> Float[Tensor, " batch"]:
    """Sum over everything but the batch."""
    return x.reshape(x.shape[0], x.shape[1:].numel()).sum(dim=1)


def widen(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return `x` in float32, or in float64 if it is float64 already: densities are never computed in less."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
