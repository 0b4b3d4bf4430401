"""Draw a scene: soft, filled shapes on a plain light ground, 64x64 sRGB."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from numpy.typing import NDArray

from limner.worlds.scenes.grammar import COLOURS, RELATIONS, Scene

SIZE = 64
MARGIN = 3.0
"""Least distance in pixels from an object's circumscribed circle to the picture's edge."""
GAP = 4.0
"""Least distance in pixels between circumscribed circles."""
RADII = {1: (9.0, 12.0), 2: (8.5, 10.5), 3: (8.0, 10.0), 4: (8.0, 9.5)}
"""Nominal radius in pixels by the number of objects; a circle has exactly this radius."""
TILT = math.radians(10.0)

HSV = {
    "red": (0.0, 0.84, 0.87),
    "orange": (28.0, 0.90, 0.96),
    "yellow": (51.0, 0.82, 0.97),
    "green": (134.0, 0.70, 0.63),
    "blue": (217.0, 0.80, 0.86),
    "purple": (282.0, 0.66, 0.68),
}
"""Hue in degrees, saturation and value of each colour name; `paint` jitters them."""

STARS = {"square": (4, math.cos(math.pi / 4)), "triangle": (3, 0.5), "star": (5, 0.47)}
"""Number of tips, and inner over outer radius: a polygon is a star whose notches lie on its edges."""
REACH = {"circle": 1.0, "square": 1.17, "triangle": 1.30, "star": 1.30}
"""Circumscribed over nominal radius, so that shapes look equally large."""

_YS, _XS = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5, indexing="ij")
_CANDIDATES = 96


def render(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the scene at a random place, size and tilt; returns `[64, 64, 3]`.

    A missing count is drawn from two to four, a missing colour from all.
    """
    counts = ((item, item.count or int(rng.integers(2, 5))) for item in scene.items)
    objects = [(item, paint(item.colour, rng)) for item, count in counts for _ in range(count)]
    scale = np.array([REACH[item.shape] for item, _ in objects])
    centres, radii = _place(scale, scene.relation, rng)
    picture = _ground(rng)
    for (item, rgb), (x, y), radius in zip(objects, centres, radii, strict=True):
        _draw(picture, item.shape, (float(x), float(y)), float(radius), float(rng.uniform(-TILT, TILT)), rgb)
    return np.round(picture * 255.0).astype(np.uint8)


def paint(colour: str | None, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the RGB of an object around its colour name, or around any."""
    colour = COLOURS[int(rng.integers(len(COLOURS)))] if colour is None else colour
    hue, saturation, value = np.add(HSV[colour], rng.uniform(-1.0, 1.0, 3) * (4.0, 0.05, 0.03))
    return np.array(colorsys.hsv_to_rgb(hue % 360.0 / 360.0, saturation, value))


def _ground(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a light ground with a slight tint and a faint linear gradient."""
    base = rng.uniform(0.90, 0.97) + rng.uniform(-0.012, 0.012, 3)
    angle, strength = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.0, 0.025)
    ramp = ((_XS - SIZE / 2) * math.cos(angle) + (_YS - SIZE / 2) * math.sin(angle)) * (strength / (SIZE / 2))
    ground: NDArray[np.float64] = np.clip(base + ramp[:, :, None], 0.0, 1.0)
    return ground


def _place(
    scale: NDArray[np.float64], relation: str | None, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw centres `[n, 2]` and circumscribed radii `[n]`: apart, inside, and in the relation; sizes yield to fit."""
    count = len(scale)
    low, high = RADII[count]
    radii = scale * rng.uniform(low, high) * rng.uniform(0.96, 1.04, count)
    first, second = np.triu_indices(count, 1)
    while True:
        border = radii + MARGIN
        centres = border[:, None] + rng.random((_CANDIDATES, count, 2)) * (SIZE - 2 * border)[:, None]
        apart = np.hypot(*np.moveaxis(centres[:, first] - centres[:, second], -1, 0))
        good = (apart >= radii[first] + radii[second] + GAP).all(axis=1)
        if relation is not None:
            good &= _related(centres[:, 0], centres[:, 1], relation)
        found = np.flatnonzero(good)
        if found.size:
            return centres[found[0]], radii
        radii = radii * 0.985


def _related(a: NDArray[np.float64], b: NDArray[np.float64], relation: str) -> NDArray[np.bool_]:
    """Tell for centres `[n, 2]` where `a` clearly stands in the relation to `b`."""
    delta = (b - a) * (1.0 if relation in ("left of", "above") else -1.0)
    along, across = (0, 1) if RELATIONS.index(relation) < 2 else (1, 0)
    return (delta[:, along] >= 20.0) & (np.abs(delta[:, across]) <= 12.0)


def _draw(
    picture: NDArray[np.float64],
    shape: str,
    centre: tuple[float, float],
    radius: float,
    tilt: float,
    rgb: NDArray[np.float64],
) -> None:
    """Blend one shape into `picture`; coverage falls linearly over one pixel at the outline."""
    x, y = centre
    reach = math.ceil(radius) + 2
    rows = slice(max(0, int(y) - reach), int(y) + reach + 1)
    columns = slice(max(0, int(x) - reach), int(x) + reach + 1)
    covered = coverage(shape, _XS[rows, columns] - x, _YS[rows, columns] - y, radius, tilt)[:, :, None]
    window = picture[rows, columns]
    window += covered * (rgb - window)


def coverage(
    shape: str, dx: NDArray[np.float64], dy: NDArray[np.float64], radius: float, tilt: float
) -> NDArray[np.float64]:
    """Return how much of each pixel a shape covers, falling linearly over one pixel at the outline.

    `dx` and `dy` are the pixels' places from its centre, y downwards.
    """
    distance = np.hypot(dx, dy)
    if shape == "circle":
        outside = distance - radius
    else:
        start = math.pi / 4 if shape == "square" else 0.0
        outside = _star_distance(distance, np.arctan2(dx, -dy) - tilt - start, radius, *STARS[shape])
    covered: NDArray[np.float64] = np.clip(0.5 - outside, 0.0, 1.0)
    return covered


def _star_distance(
    distance: NDArray[np.float64], angle: NDArray[np.float64], radius: float, tips: int, inner: float
) -> NDArray[np.float64]:
    """Return the signed distance in pixels to the outline of a star whose first tip lies at angle 0.

    The angle is folded into one half arm, where the outline is the line from the tip to the notch.
    """
    half = math.pi / tips
    folded = np.abs((angle + half) % (2 * half) - half)
    notch_x, notch_y = inner * radius * math.cos(half), inner * radius * math.sin(half)
    normal_x, normal_y = notch_y, radius - notch_x
    length = math.hypot(normal_x, normal_y)
    return ((distance * np.cos(folded) - radius) * normal_x + distance * np.sin(folded) * normal_y) / length
