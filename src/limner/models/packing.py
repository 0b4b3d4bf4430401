"""Latents of pictures as tokens of 2 x 2, as the FLUX family and Qwen-Image read them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def packed(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch tokens features"]:
    """Return a token for each 2 x 2 latent pixels, row by row, its features channel by channel."""
    cells = x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(
    tokens: Float[Tensor, "batch tokens features"], size: tuple[int, int]
) -> Float[Tensor, "batch channels height width"]:
    """Return the latents of height and width `size` that were `packed`."""
    cells = tokens.unflatten(1, (size[0] // 2, size[1] // 2)).unflatten(-1, (-1, 2, 2))
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def places(size: tuple[int, int]) -> Float[Tensor, "tokens 3"]:
    """Return (0, row, column) of each token of a latent of that height and width."""
    return torch.cartesian_prod(torch.zeros(1), *(torch.arange(side // 2, dtype=torch.float32) for side in size))
