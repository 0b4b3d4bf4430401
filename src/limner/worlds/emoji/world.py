"""The world as pretraining sees it: pictures a little moved and shrunk, and names that are wrong in a stated share."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limner.worlds.emoji.grammar import FOLDER, SIZE, VOCABULARY, noisy_caption, pictures, sample_emoji

BASE = FOLDER / "base"
"""The base model's folder, as diffusers lays it out."""
SMALLEST = 58
"""Pixels: a training picture is shrunk to between so many and 64."""
WANDER = 2
"""Pixels that it is moved, at most, each way, beside what shrinking leaves free."""


class Emojis:
    """The world as pretraining sees it."""

    vocabulary = VOCABULARY
    pretraining: ClassVar[Mapping[str, Any]] = {}
    fps: ClassVar[float | None] = None

    def pair(self, rng: np.random.Generator, *noisy_shares: float) -> tuple[NDArray[np.uint8], list[str]]:
        """Return a picture and a caption for each share, the probability that it names an emoji of another family.

        Never a held-out one, drawn or named.
        """
        row = sample_emoji(rng)
        picture = moved(pictures()[row], rng)
        return picture, [noisy_caption(row, deepcopy(rng), share) for share in noisy_shares]


def moved(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a picture `[64, 64, 3]` shrunk a little, on white, a little off the middle; never mirrored or turned."""
    edge = int(rng.integers(SMALLEST, SIZE + 1))
    small = Image.fromarray(picture).resize((edge, edge), Image.Resampling.BICUBIC)
    spare = (SIZE - edge) // 2
    left, top = (int(v) for v in spare + rng.integers(-spare - WANDER, spare + WANDER + 1, 2))
    sheet = Image.new("RGB", (SIZE, SIZE), "white")
    sheet.paste(small, (left, top))
    return np.asarray(sheet)
