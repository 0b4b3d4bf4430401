"""What rewards of time share: clips with time in them, and what stands out from their ground."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import RewardOutput

AXES = ("T", "C", "H", "W")

Frames = Float[Tensor, "batch frames 3 height width"]


def clips(media: Media, name: str, least: int = 2) -> Frames:
    """Return the frames. Raises UserError for fewer than `least`: a picture has no time to judge."""
    frames = media.frames()
    if frames.shape[1] < least:
        raise UserError(f"{name} judges clips of {least} frames at least, got {frames.shape[1]}")
    return frames


def judgeable(frames: Frames) -> Bool[Tensor, " batch"]:
    """Tell which clips have numbers everywhere, and something to see."""
    flat = frames.detach().flatten(1)
    return flat.isfinite().all(1) & (flat.nan_to_num().amax(1) - flat.nan_to_num().amin(1) > 0.02)


def judged(
    score: Float[Tensor, " batch"],
    valid: Bool[Tensor, " batch"],
    components: Mapping[str, Float[Tensor, " batch"]] | None = None,
) -> RewardOutput:
    """Return an answer whose score is NaN where it is not valid."""
    return RewardOutput(score.masked_fill(~valid, torch.nan), valid, components or {})


def standing_out(frames: Frames) -> Float[Tensor, "batch frames height width"]:
    """Return how far each pixel is from the ground, the median of the clip's border: 0 to 1, soft between."""
    border = torch.cat([frames[..., 0, :], frames[..., -1, :], frames[..., :, 0], frames[..., :, -1]], -1)
    ground = border.transpose(1, 2).flatten(2).median(-1).values
    distance = (frames - ground[:, None, :, None, None]).square().sum(2).sqrt()
    return ((distance - 0.12) / 0.2).clamp(0, 1)


def centroids(
    out: Float[Tensor, "batch frames height width"],
) -> tuple[Float[Tensor, "batch frames 2"], Float[Tensor, "batch frames"]]:
    """Return x and y of the middle of what stands out in each frame, in pixels, and its area, from `standing_out`.

    A frame with less than a pixel of it has the middle of the clip.
    """
    areas = out.sum((2, 3))
    ys, xs = (torch.arange(n, dtype=out.dtype, device=out.device) for n in out.shape[-2:])
    x, y = (out * xs).sum((2, 3)), (out * ys[:, None]).sum((2, 3))
    centres = torch.stack([x, y], -1) / areas[..., None].clamp(min=1e-6)
    return torch.where(areas[..., None] >= 1, centres, centres.mean(1, keepdim=True)), areas
