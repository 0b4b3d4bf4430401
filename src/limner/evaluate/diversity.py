"""How different the pictures of one prompt are from one another."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from limner.core.media import unit

CELLS = 8
"""Cells a side: what remains of a picture is where which colour is."""


Pictures = Float[Tensor, "prompts seeds 3 height width"] | UInt8[Tensor, "prompts seeds 3 height width"]


def diversity(images: Pictures) -> float:
    """Return the within-prompt diversity: the mean of `diversity_per_prompt`, 0 (equal pictures) to 1."""
    return diversity_per_prompt(images).mean().item()


def diversity_per_prompt(images: Pictures) -> Float[Tensor, " prompts"]:
    """Return, for each prompt, the mean over pairs of seeds of the RMS distance of their thumbnails.

    A thumbnail is the mean sRGB value, in [0, 1], of 8 x 8 equal cells; the distance of two is
    sqrt(mean over 8 x 8 x 3 values of the squared difference). It sees layout and colour; pixel noise of deviation s
    in a picture of side h adds only about s 8 sqrt(2) / h. Levels are widened a prompt at a time.
    """
    prompts, seeds = images.shape[:2]
    if seeds < 2:
        raise ValueError(f"diversity compares seeds of one prompt: got {seeds} a prompt, needs 2 or more")
    thumbnails = [torch.nn.functional.adaptive_avg_pool2d(unit(row).double(), CELLS) for row in images]
    flat = torch.stack(thumbnails).reshape(prompts, seeds, -1)
    i, j = torch.triu_indices(seeds, seeds, offset=1)
    return (flat[:, i] - flat[:, j]).square().mean(-1).sqrt().mean(-1)
