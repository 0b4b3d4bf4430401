"""How large a clip of Wan is: frames, height and width of a latent, of what settings say or the pipeline's own."""

from __future__ import annotations

import math

from diffusers import WanImageToVideoPipeline, WanPipeline

from limner.core.errors import UserError
from limner.models.picture import sides
from limner.models.wan.first_frame import taken
from limner.models.wan.honoured import require_places
from limner.models.wan.settings import WanSettings

HEIGHT, WIDTH, FRAMES = 480, 832, 81
"""What diffusers' pipeline draws unless it is told otherwise."""
MULTIPLE = 16
"""Pixels that it wants height and width to be a multiple of."""


def latent_size(pipeline: WanPipeline | WanImageToVideoPipeline, settings: WanSettings) -> tuple[int, int, int]:
    """Return frames, height and width of a latent.

    Raises UserError for pixels that are cut into no whole tokens, frames that are not halved, and more of either than
    the transformer has places for.
    """
    cell, pace = pipeline.vae_scale_factor_spatial, pipeline.vae_scale_factor_temporal
    patch = pipeline.transformer.config.patch_size
    multiple = math.lcm(MULTIPLE, cell * patch[1], cell * patch[2])
    height, width = sides(settings.resolution, settings.width, (HEIGHT, WIDTH), multiple)
    frames = FRAMES if settings.num_frames is None else settings.num_frames
    require_frames("model: num_frames is", frames, pace)
    if frames < len(taken(pipeline, settings.last_frame)):
        raise UserError("model: num_frames is 1, and a clip with a first and a last frame has more")
    size = ((frames - 1) // pace + 1, height // cell, width // cell)
    require_places(pipeline, size)
    return size


def require_frames(what: str, frames: int, pace: int) -> None:
    """Raise UserError for a clip that is not cut into whole latents, each of `pace` frames but the first, of one."""
    if (frames - 1) % pace:
        raise UserError(
            f"{what} {frames} frames; give one more than a multiple of {pace}, as the autoencoder halves them"
        )
