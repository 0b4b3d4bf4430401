"""The clip that a prompt names as its reference: read once, and only compared with clips of its own form."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from limner.core.errors import UserError, shown
from limner.core.media import unit
from limner.core.paths import SUFFIXES
from limner.core.picture import paced
from limner.core.types import Prompt

KEPT = 8
"""Clips that are kept in memory: a batch asks about one prompt after the other."""
NEAR = 0.05
"""Share by which rates may differ: WebP keeps whole milliseconds, GIF hundredths of a second."""


def reference_clip(
    prompt: Prompt, clip: Float[Tensor, "frames 3 height width"], fps: float | None
) -> Float[Tensor, "frames 3 height width"]:
    """Return the frames of the file that a prompt names, in [0, 1], as the numbers of `clip` are kept.

    `fps` are the clip's frames a second; None: it has no such rate. Raises UserError for a file that cannot be read,
    and, saying both forms, for one of other size, rate, or number of frames.
    """
    place, named = prompt.reference, prompt.meta["reference"]
    where = f"video_reference: prompt {shown(prompt.text)}: its reference {named}"
    if place is None:
        raise UserError(f"{where} names no picture or clip by how it ends ({', '.join(SUFFIXES)})")
    if not place.is_file():
        raise UserError(f"{where} is no file")
    count = len(clip)
    frames, pause = _read(place, place.stat().st_mtime_ns, count + 1)
    other = fps is not None and pause > 0 and abs(pause * fps / 1000 - 1) > NEAR
    if frames.shape != clip.shape or other:
        theirs = _form("more" if len(frames) > count else len(frames), frames, 1000 / pause if pause else None)
        mine = _form(count, clip, fps)
        raise UserError(
            f"{where} has {theirs}, the clip {mine}: which answers which is not known; save it as clips are"
        )
    return unit(frames).to(clip)


@lru_cache(maxsize=KEPT)
def _read(place: Path, changed: int, most: int) -> tuple[UInt8[Tensor, "frames 3 height width"], float]:
    """Return the first frames of a file, and how long each stays, in milliseconds; anew once it has `changed`."""
    pictures, pause = paced(place, most)
    return torch.from_numpy(np.stack([np.asarray(each) for each in pictures])).permute(0, 3, 1, 2), pause


def _form(count: int | str, frames: Tensor, fps: float | None) -> str:
    """Return what a clip is like, in words."""
    rate = f" at {fps:.3g} a second" if fps else ""
    return f"{count} frames of {frames.shape[2]} x {frames.shape[3]} pixels{rate}"
