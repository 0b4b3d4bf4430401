"""Draw a word: one upper-case line, dark on a light sign, 64x64 sRGB, in genuine type.

Both faces, upright and oblique, have letters of one width, so that the letters of all words of a length stand in the
same places, as a small model needs it. They come inside matplotlib (the extra `bench`).
"""

from __future__ import annotations

import colorsys
import functools
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from limner.core.errors import UserError
from limner.worlds.words.grammar import LETTERS

SIZE = 64
DETAIL = 3
"""Drawn so many times larger, then averaged."""
FACES = ("DejaVuSansMono-Bold.ttf", "DejaVuSansMono-BoldOblique.ttf")
"""Bold, so that strokes survive an autoencoder that makes pictures eight times smaller."""
WIDTH = 50.0
"""Most pixels a word is wide."""
SCALES = (0.94, 1.0)
"""Size, relative to the largest that fits."""
PADDING = (2.5, 4.0)
"""Pixels of the sign around the word."""
TILT = 1.0
"""Degrees, at most."""
WANDER = 1.5
"""Pixels from the picture's centre to the sign's, at most, each way."""


def render(word: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the word in a random face, size, place, tilt and colours; `[64, 64, 3]`.

    The word alone is written, once: the sign's shape and the ground carry no other text.
    Raises UserError for anything but one to five letters A to Z, or if matplotlib is missing.
    """
    if not 1 <= len(word) <= 5 or not set(word) <= set(LETTERS):
        raise UserError(f"words render: expected one to five letters A to Z, got {word!r}")
    sign, text = _masks(word, rng)
    picture = _ground(rng)
    plate, ink = _colours(rng)
    picture += sign[:, :, None] * (plate - picture)
    picture += text[:, :, None] * (ink - picture)
    return np.round(picture * 255.0).astype(np.uint8)


def _masks(word: str, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much of each pixel the sign and the letters cover, `[64, 64]` each."""
    face = FACES[int(rng.integers(len(FACES)))]
    largest = 100 * WIDTH / _font(face, 100).getlength(word)
    font = _font(face, round(largest * rng.uniform(*SCALES) * DETAIL))
    _, top, _, bottom = font.getbbox(LETTERS)
    size = np.array([font.getlength(word), bottom - top])
    half = size / 2 + DETAIL * rng.uniform(*PADDING, 2)
    x, y = DETAIL * (SIZE / 2 + rng.uniform(-WANDER, WANDER, 2))
    layers = [Image.new("L", (SIZE * DETAIL, SIZE * DETAIL)) for _ in range(2)]
    box = (x - half[0], y - half[1], x + half[0], y + half[1])
    ImageDraw.Draw(layers[0]).rounded_rectangle(box, radius=DETAIL * rng.uniform(0.0, 4.0), fill=255)
    ImageDraw.Draw(layers[1]).text((x - size[0] / 2, y - (top + bottom) / 2), word, font=font, fill=255)
    angle = rng.uniform(-TILT, TILT)
    tilted = [layer.rotate(angle, Image.Resampling.BILINEAR, center=(x, y)).reduce(DETAIL) for layer in layers]
    sign, text = (np.asarray(layer, dtype=np.float64) / 255.0 for layer in tilted)
    return sign, text


def _colours(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the RGB of a light sign and of its dark letters, of any hue."""
    light = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.15), rng.uniform(0.92, 1.0))
    dark = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.10, 0.40))
    return np.array(light), np.array(dark)


def _ground(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a grey to light ground with a slight tint and a faint linear gradient."""
    base = rng.uniform(0.55, 0.80) + rng.uniform(-0.05, 0.05, 3)
    angle, strength = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.0, 0.05)
    across = (np.arange(SIZE) + 0.5) / (SIZE / 2) - 1.0
    ramp = (across * math.cos(angle) + across[:, None] * math.sin(angle)) * strength
    ground: NDArray[np.float64] = np.clip(base + ramp[:, :, None], 0.0, 1.0)
    return ground


@functools.lru_cache(maxsize=4096)
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a face at `size` pixels an em, laid out by Pillow alone, so that a picture is the same everywhere."""
    return ImageFont.truetype(str(_folder() / face), size, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def _folder() -> Path:
    """Return matplotlib's folder of typefaces. Raises UserError if matplotlib is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise UserError("the words world draws with matplotlib's typefaces: pip install 'limner[bench]'") from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"
