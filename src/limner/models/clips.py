"""What families of clips share: how many frames a latent has, and an autoencoder with means and scales of channels."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Videos
from limner.models.parts import seen, shown
from limner.models.piped import Piped


def latent_frames(frames: int, pace: int, what: str = "model: num_frames is") -> int:
    """Return how many frames a latent has, each of `pace` of a clip but the first, of one.

    Raises UserError for a clip that is not cut into whole ones.
    """
    if (frames - 1) % pace:
        raise UserError(f"{what} {frames}; give one more than a multiple of {pace}, as the autoencoder halves them")
    return (frames - 1) // pace + 1


def statistics(vae: Any) -> tuple[Float[Tensor, "#channels 1 1 1"], Float[Tensor, "#channels 1 1 1"]]:
    """Return mean and std of each channel of the autoencoder's latents, its `scaling_factor` in the std."""
    config = vae.config
    known = "latents_mean" in config and config.latents_mean is not None and config.latents_std is not None
    mean, std = torch.tensor([config.latents_mean, config.latents_std] if known else [[0.0], [1.0]], device=vae.device)
    return mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1) / config.scaling_factor


def pace(vae: Any) -> int:
    """Return how many frames of a clip one of a latent stands for."""
    told = vae.config.get("temporal_compression_ratio")
    return int(vae.temporal_compression_ratio if told is None else told)


def decode(model: Piped, sample: Float[Tensor, "batch channels frames height width"]) -> Videos:
    """Return the clips that the autoencoder decodes."""
    vae, (mean, std) = model.pipeline.vae, statistics(model.pipeline.vae)
    pixels = pace(vae) * model.cell**2 * sample[0, 0].numel()
    return Videos(shown(vae, sample.to(mean) * std + mean, pixels).movedim(1, 2), model.settings.fps)


def encode(model: Piped, frames: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch channels ..."]:
    """Return the latents of clips. Raises UserError for what the autoencoder cannot halve."""
    vae, (mean, std) = model.pipeline.vae, statistics(model.pipeline.vae)
    latent_frames(frames.shape[1], pace(vae), "a clip has frames")
    return (seen(vae, frames.movedim(2, 1)).float() - mean) / std
