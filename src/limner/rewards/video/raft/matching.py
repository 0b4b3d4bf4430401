"""What RAFT compares: each place of a frame with all places of the next, and how its flow comes to pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

LEVELS = 4
"""Resolutions of the next frame, each half of the one before."""
CELL = 8
"""Pixels of a place."""

Flow = Float[Tensor, "batch 2 height width"]
Features = Float[Tensor, "batch channels height width"]


def likeness(one: Features, other: Features) -> list[Float[Tensor, "places 1 rows columns"]]:
    """Return <f(p), g(q)> / sqrt(channels), a map of q for each p, and its means over 2 x 2, 4 x 4 and 8 x 8 q."""
    maps = torch.einsum("bcij,bckl->bijkl", one, other) / math.sqrt(one.shape[1])
    levels = [maps.flatten(0, 2)[:, None]]
    for _ in range(LEVELS - 1):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def around(
    levels: Sequence[Float[Tensor, "places 1 rows columns"]], flow: Flow, radius: int
) -> Float[Tensor, "batch channels height width"]:
    """Return what p is like around where its flow leads, in each level: (2 radius + 1)^2 numbers, column by column.

    Between places maps are interpolated, and 0 outside. Source: arXiv:2003.12039, section 3.2.
    """
    batch, _, height, width = flow.shape
    ys, xs = torch.meshgrid(*(torch.arange(n).to(flow) for n in (height, width)), indexing="ij")
    led = (flow + torch.stack([xs, ys])).permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    line = torch.arange(-radius, radius + 1).to(flow)
    offsets = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)
    found = []
    for k, maps in enumerate(levels):
        rows, columns = maps.shape[-2:]
        at = 2 * (led / 2**k + offsets) / led.new_tensor([columns - 1, rows - 1]) - 1
        found.append(F.grid_sample(maps, at, align_corners=True).view(batch, height, width, -1))
    return torch.cat(found, -1).permute(0, 3, 1, 2)


def enlarged(flow: Flow, weights: Float[Tensor, "batch channels height width"]) -> Flow:
    """Return flow of pixels: of each the mean of 3 x 3 places by softmaxed weights, 9 x `CELL` x `CELL` of each place.

    Source: arXiv:2003.12039, section 3.3.
    """
    share = weights.unflatten(1, (9, CELL, CELL)).softmax(1)
    near = F.unfold(CELL * flow, 3, padding=1).view(len(flow), 2, 9, *flow.shape[-2:])
    pixels = torch.einsum("bnyxij,bcnij->bciyjx", share, near)
    return pixels.flatten(4, 5).flatten(2, 3)
