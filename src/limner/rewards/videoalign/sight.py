"""What VideoReward sees of a clip: which frames, how large, and in which patches. Gradients reach the pixels."""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from limner.core.errors import UserError
from limner.rewards.videoalign.folder import NAME
from limner.rewards.vision.preprocess import CLIP, normalised

FRAMES = 2
"""Frames that a patch goes over: as many numbers are seen."""
LEAST, MOST = 4, 768
"""Frames of a clip, in the authors' code."""
LEAST_PIXELS = 128 * 28 * 28
MOST_ASPECT = 200
UNEVEN = 1.5
"""Longest over shortest step between frames that are seen above which they are not evenly spaced."""


def chosen(count: int, fps: float, rate: float) -> list[int]:
    """Return which of a clip's frames are seen: `rate` of each second, an even number, the first and the last too.

    With n = 2 round(count / fps x rate / 2) they are round(linspace(0, count - 1, n)), as in the authors' code. Where
    that has bounds, so that other clips are seen at another rate, UserError is raised: for clips of less than `rate`
    frames a second, of less than four or more than 768 to see, and for steps of which one is over 1.5 times another.
    """
    if fps < rate:
        raise UserError(
            f"{NAME} judges clips by {rate:g} frames a second, and these have {fps:g}: say in model.settings.fps how "
            "fast they are to be shown, for motion at another rate is another motion"
        )
    wanted = FRAMES * round(count / fps * rate / FRAMES)
    if not LEAST <= wanted <= MOST:
        raise UserError(
            f"{NAME} judges {LEAST} to {MOST} frames of a clip, {rate:g} of each second, and {count} at {fps:g} a "
            f"second leave {wanted}: give {'longer' if wanted < LEAST else 'shorter'} clips"
        )
    places: list[int] = torch.linspace(0, count - 1, min(wanted, count)).round().long().tolist()
    steps = [b - a for a, b in itertools.pairwise(places)]
    if wanted > count or max(steps) > UNEVEN * min(steps):
        raise UserError(
            f"{NAME} judges clips by {rate:g} frames a second, and {wanted} of {count} at {fps:g} a second are not "
            f"evenly spaced, so that even motion would seem to halt: show clips at {FRAMES * rate:g} a second or more"
        )
    return places


def fitted(height: int, width: int, cell: int, most: int) -> tuple[int, int]:
    """Return the size in which frames are seen: multiples of `cell`, of at least 100,352 and at most `most` pixels.

    Source: Qwen2-VL, arXiv:2409.12191, its native resolution. Raises UserError for strips.
    """
    if max(height, width) > MOST_ASPECT * min(height, width):
        raise UserError(f"{NAME}: a side of clips may be {MOST_ASPECT} times the other, got {height} x {width} pixels")
    rows, columns = (max(cell, cell * round(side / cell)) for side in (height, width))
    if rows * columns > most:
        shrink = math.sqrt(height * width / most)
        rows, columns = (cell * math.floor(side / shrink / cell) for side in (height, width))
    elif rows * columns < LEAST_PIXELS:
        grow = math.sqrt(LEAST_PIXELS / (height * width))
        rows, columns = (cell * math.ceil(side * grow / cell) for side in (height, width))
    if not rows * columns:
        raise UserError(f"{NAME}: frames of {height} x {width} pixels are too narrow to be seen in {most} pixels")
    return rows, columns


def resized(
    frames: Float[Tensor, "frames 3 height width"], rows: int, columns: int, as_levels: bool
) -> Float[Tensor, "frames 3 rows columns"]:
    """Return frames in [0, 1] at another size, by an antialiased cubic cut to [0, 1].

    `as_levels` rounds to 8 bits, as the authors' code has clips from a file; that has no gradient.
    """
    levels = interpolate(255 * frames, (rows, columns), mode="bicubic", antialias=True, align_corners=False)
    levels = levels.clamp(0, 255)
    return (levels.round() if as_levels else levels) / 255


def patches(
    frames: Float[Tensor, "frames 3 height width"], side: int, merged: int
) -> tuple[Float[Tensor, "patches values"], tuple[int, int, int]]:
    """Return the patches of `side` x `side` pixels in two frames, normalised, and how many there are of each axis.

    Those that are one token, `merged` x `merged`, follow one another; a patch is channels, times, rows, columns.
    """
    times, rows, columns = len(frames) // FRAMES, frames.shape[2] // side, frames.shape[3] // side
    seen = normalised(frames, CLIP)
    cells = seen.reshape(times, FRAMES, 3, rows // merged, merged, side, columns // merged, merged, side)
    ordered = cells.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return ordered.reshape(times * rows * columns, -1), (times, rows, columns)
