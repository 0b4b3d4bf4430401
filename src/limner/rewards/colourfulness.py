"""Colourfulness: the measure of Hasler and Suesstrunk."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from limner.core.media import Media
from limner.core.types import Prompt, RewardSpec
from limner.judging.spec import declare

HIGHEST = 255.0 * math.sqrt(2.0 * (1.0 + 0.3**2))
"""No picture scores higher: spread^2 + mean^2 <= 2 * 255^2, and spread + 0.3 mean is greatest along (1, 0.3)."""


@declare(
    RewardSpec(
        "colourfulness",
        "how colourful the picture looks; grey is 0, and about 60 is called quite colourful",
        low=0.0,
        high=HIGHEST,
        differentiable=True,
        source="Hasler and Suesstrunk, Measuring colourfulness in natural images (2003), section 7, metric 3",
    )
)
def colourfulness(media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return sqrt(var rg + var yb) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2), the mean over frames.

    rg = R - G and yb = (R + G) / 2 - B are opponent colours, with sRGB in [0, 255] as in the source. A grey picture
    scores 0, where the gradient is 0 and not NaN.
    """
    red, green, blue = (media.frames() * 255).flatten(3).unbind(2)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], 2)
    mean = opponents.mean(3)
    away = (opponents - mean[..., None]).flatten(2) / opponents.shape[3] ** 0.5
    return (vector_norm(away, dim=2) + 0.3 * vector_norm(mean, dim=2)).mean(1)
