"""Sharpness: how much the picture's Laplacian varies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import conv2d

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import coarse, declare

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in a picture's grey (ITU-R BT.601), on sRGB values as they are."""
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


@declare(
    RewardSpec(
        "sharpness",
        "the variance of the picture's Laplacian: falls with blur, and rises with noise as with detail",
        low=0.0,
        high=16.0,
        maps={"detail": "squared deviation of the Laplacian from its mean: what the score is the mean of"},
        differentiable=True,
        source="Pech-Pacheco et al., ICPR 2000: variance of the Laplacian",
    )
)
def sharpness(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return var(L * y), the mean over frames: y the picture's grey in [0, 1], L the Laplacian of four neighbours.

    Responses lie in [-4, 4], so that the score lies in [0, 16]; pixels at the border, which lack a neighbour, do not
    count. Deviation from the source: grey in [0, 1] instead of [0, 255], a factor of 255^2. Noise is sharp too: combine
    it with a reward that dislikes noise. Raises UserError for frames smaller than 3 x 3 pixels.
    """
    frames = media.frames()
    if min(frames.shape[-2:]) < 3:
        raise UserError(f"sharpness needs frames of at least 3 x 3 pixels, got {tuple(frames.shape[-2:])}")
    grey = torch.einsum("bfchw,c->bfhw", frames, frames.new_tensor(LUMA))
    response = conv2d(grey.flatten(0, 1)[:, None], frames.new_tensor(LAPLACIAN)[None, None])
    deviation = (response - response.mean((1, 2, 3), keepdim=True)).square()[:, 0].unflatten(0, frames.shape[:2])
    detail = deviation.mean(1)
    valid = torch.ones(len(detail), dtype=torch.bool, device=detail.device)
    return RewardOutput(detail.mean((1, 2)), valid, maps={"detail": coarse(detail)})
