"""Contrast: how far the picture's grey values lie from their mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from limner.core.media import Media
from limner.core.types import Prompt, RewardSpec
from limner.judging.spec import declare

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in a picture's grey (ITU-R BT.601), on sRGB values as they are."""


@declare(
    RewardSpec(
        "contrast",
        "the standard deviation of the picture's grey values (RMS contrast)",
        low=0.0,
        high=0.5,
        differentiable=True,
        source="Peli, J. Opt. Soc. Am. A 7 (1990): RMS contrast",
    )
)
def contrast(media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return std(y), the mean over frames: y the picture's grey in [0, 1], so that the score lies in [0, 0.5].

    Half black and half white scores 0.5. A picture of one colour scores 0, where the gradient is 0 and not NaN.
    """
    frames = media.frames()
    grey = torch.einsum("bfchw,c->bfhw", frames, frames.new_tensor(LUMA)).flatten(2)
    away = grey - grey.mean(2, keepdim=True)
    return (vector_norm(away, dim=2) / grey.shape[2] ** 0.5).mean(1)
