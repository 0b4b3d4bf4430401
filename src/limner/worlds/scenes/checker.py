"""Read a picture back: which objects stand where, and which clauses of a scene they satisfy.

The checker sees pixels only. Reinforcement learning will be its adversary, so whatever is odd counts against
the picture: an object of unclear colour or outline is unknown, a speck or smudge is one more object, and a
picture without a plain light ground shows nothing at all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limner.worlds.scenes.grammar import SHAPES, Item, Scene
from limner.worlds.scenes.render import SIZE, STARS

Floats = NDArray[np.float32]

FOREGROUND = 45.0
"""RGB distance from the ground (0 to 441) above which a pixel belongs to an object."""
SMUDGES = ((34.0, 9), (22.0, 110))
"""RGB distance from the ground, and number of pixels so far off away from every object that count as one more."""
SPECK_AREA = 5
"""Pixels below which a component of the foreground is overlooked."""
AREA = (70.0, 1000.0)
"""Least and largest area of a readable object in pixels; renders lie between 110 and 720."""
GROUND_SPREAD = 30.0
"""Largest channel distance of a ground pixel from the border's median."""
PURITY = 0.95
"""Least share of an object's interior that has its colour."""
MAX_HUE_SHIFT = 30.0
"""Largest RGB distance of an interior pixel from the object's colour across the line to grey."""
MAX_FADE = 80.0
"""Largest RGB distance of an interior pixel from the object's colour (blur and JPEG fade it towards the ground)."""
RESIDUAL = {"circle": 0.038, "square": 0.055, "triangle": 0.075, "star": 0.08}
"""Largest rms difference of the outline from the shape's, in units of the radius of the disc of equal area."""
RESIDUAL_RATIO = 0.65
"""Largest ratio of the best shape's residual to the second best's."""
ROUNDING = (0.0, 0.1, 0.2)
"""Shares by which a template is drawn towards the disc, as blur rounds tips and fills notches."""
SOFTNESS = 4.2
"""Largest integral of 4 alpha (1 - alpha) over the circumference of the disc of equal area, in pixels.

A circle with a 1-pixel ramp has 0.67, blurred by 1 pixel 2.3, by 1.5 pixels 3.3.
"""
HUES = {
    "red": (-12.0, 9.0),
    "orange": (18.5, 38.0),
    "yellow": (43.5, 63.0),
    "green": (112.0, 152.0),
    "blue": (203.0, 233.0),
    "purple": (267.0, 299.0),
}
"""Angles in the plane across grey, in degrees, that a colour's name spans; between them a colour has no name.

Renders stay within 5 degrees of their colour's centre, at JPEG quality 60 within 9.
"""
MIN_SATURATION = 0.45
MIN_VALUE = 0.45
MIN_ALONG = 14.0
"""Least distance in pixels between two centres along the axis of their relation."""
MAX_SLOPE = 0.8
"""Largest distance across the axis, as a share of that along it."""

_ANGLES = 72
_STEP = 0.5
_EIGHT = np.ones((3, 3), dtype=bool)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_FRAME = np.ones((SIZE, SIZE), dtype=bool)
_FRAME[2:-2, 2:-2] = False
_RAMP = np.linspace(-1.0, 1.0, SIZE, dtype=np.float32)
_BASIS = np.stack([np.ones((SIZE, SIZE), dtype=np.float32), *np.meshgrid(_RAMP, _RAMP)], axis=2)


@dataclass(frozen=True)
class Detection:
    """One object as seen; a colour or shape of None is unclear, and `doubt` says why."""

    colour: str | None
    shape: str | None
    centre: tuple[float, float]
    """x to the right and y downwards, in pixels from the upper left corner."""
    area: float
    doubt: str = ""


@dataclass(frozen=True)
class Verdict:
    """Which clauses of a scene a picture satisfies; a clause that the scene lacks is True."""

    count: bool
    colour: bool
    shape: bool
    position: bool
    fraction: float
    """Mean of the clauses that the scene has."""

    @property
    def correct(self) -> bool:
        """Tell whether every clause holds."""
        return self.count and self.colour and self.shape and self.position


def check(image: NDArray[np.uint8], scene: Scene) -> Verdict:
    """Judge one picture `[64, 64, 3]` against a scene."""
    return judge(detect(image), scene)


def check_batch(images: NDArray[np.uint8], scenes: Sequence[Scene]) -> dict[str, NDArray[np.float32]]:
    """Judge pictures `[n, 64, 64, 3]`; returns 0 or 1 for each clause and `correct`, and `fraction`, each `[n]`."""
    verdicts = [check(image, scene) for image, scene in zip(images, scenes, strict=True)]
    columns = {
        "count": [v.count for v in verdicts],
        "colour": [v.colour for v in verdicts],
        "shape": [v.shape for v in verdicts],
        "position": [v.position for v in verdicts],
        "correct": [v.correct for v in verdicts],
        "fraction": [v.fraction for v in verdicts],
    }
    return {name: np.asarray(column, dtype=np.float32) for name, column in columns.items()}


def judge(detections: Sequence[Detection], scene: Scene) -> Verdict:
    """Judge what was seen against a scene, under the assignment of objects to items that satisfies most.

    Colours and shapes are compared object by object, so a red circle and a blue square are no blue circle and
    red square. When the number of objects is wrong, those that can be assigned still earn their clauses.
    """
    best, most = (False, False, False), -1
    seen = sorted(detections, key=lambda d: (d.doubt == "", d.area), reverse=True)[:4]
    # As many of each as were seen, at most: more cannot be assigned, however many are wanted.
    items = [item for item in scene.items for _ in range(min(item.count or len(seen), len(seen)))]
    size = min(len(items), len(seen))
    for some in itertools.permutations(seen, size):
        for wanted in itertools.combinations(items, size):
            clauses, score = _compare(wanted, some, scene.relation)
            if size and score > most:
                best, most = clauses, score
        if len(scene.items) == 1 and len(seen) == size:
            break
    count = _count(scene, len(detections))
    applicable = (count, *best) if scene.relation else (count, *best[:2])
    return Verdict(count, *best, fraction=sum(applicable) / len(applicable))


def _count(scene: Scene, seen: int) -> bool:
    """Tell whether the number of objects is right; an unstated number is two to four."""
    if any(item.count is None for item in scene.items):
        return 2 <= seen <= 4
    return seen == sum(item.count or 0 for item in scene.items)


def _compare(
    items: Sequence[Item], seen: Sequence[Detection], relation: str | None
) -> tuple[tuple[bool, bool, bool], int]:
    """Return the clauses (colour, shape, position) of one assignment, and how good it is."""
    colours = [d.colour is not None and item.colour in (None, d.colour) for item, d in zip(items, seen, strict=True)]
    shapes = [d.shape == item.shape for item, d in zip(items, seen, strict=True)]
    position = relation is None or (len(seen) == 2 and related(seen[0].centre, seen[1].centre, relation))
    whole = sum(c and s for c, s in zip(colours, shapes, strict=True))
    return (all(colours), all(shapes), position), 1000 * whole + 100 * sum(shapes) + 10 * sum(colours) + position


def related(a: tuple[float, float], b: tuple[float, float], relation: str) -> bool:
    """Tell whether centre `a` clearly stands in the relation to centre `b`."""
    sign = 1.0 if relation in ("left of", "above") else -1.0
    dx, dy = sign * (b[0] - a[0]), sign * (b[1] - a[1])
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    return along >= MIN_ALONG and abs(across) <= MAX_SLOPE * along


def detect(image: NDArray[np.uint8]) -> list[Detection]:
    """Find the objects of a picture `[64, 64, 3]`; one without a plain light ground shows none."""
    pixels = image.astype(np.float32)
    ground = _ground(pixels)
    if ground is None:
        return []
    delta = pixels - ground
    distance = np.sqrt(np.einsum("hwc,hwc->hw", delta, delta))
    labels, found = ndimage.label(distance > FOREGROUND, _EIGHT)
    if found > 40:
        return []
    detections = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = box
        mask = labels[box] == number
        area = int(np.count_nonzero(mask))
        if area < SPECK_AREA:
            continue
        if rows.start == 0 or columns.start == 0 or rows.stop == SIZE or columns.stop == SIZE:
            centre = ((columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2)
            detections.append(Detection(None, None, centre, float(area), "cut off by the picture's edge"))
            continue
        detections.append(_read(pixels, delta, labels, number, box))
    far = ~_dilate(_dilate(_dilate(labels > 0)))
    smudges = [int(np.count_nonzero(far & (distance > level))) for level, _ in SMUDGES]
    if any(smudge >= least for smudge, (_, least) in zip(smudges, SMUDGES, strict=True)):
        detections.append(Detection(None, None, (SIZE / 2, SIZE / 2), float(max(smudges)), "smudged ground"))
    return detections


def _ground(pixels: Floats) -> Floats | None:
    """Fit the ground's colour as a plane over the picture; None where it is not plain and light."""
    border = np.median(pixels[_FRAME], axis=0)
    some = pixels[::2, ::2].reshape(-1, 3)
    plain = np.abs(some - border).max(axis=1) < GROUND_SPREAD
    if border.min() < 195.0 or np.ptp(border) > 28.0 or plain.mean() < 0.5:
        return None
    basis, values = _BASIS[::2, ::2][plain.reshape(SIZE // 2, SIZE // 2)], some[plain]
    plane = np.linalg.solve(basis.T @ basis, basis.T @ values)
    if np.sqrt(np.mean((values - basis @ plane) ** 2)) > 9.0:
        return None
    return _BASIS @ plane


def _read(pixels: Floats, delta: Floats, labels: NDArray[np.int32], number: int, box: tuple[slice, slice]) -> Detection:
    """Read colour and shape of one component."""
    window = tuple(slice(max(0, s.start - 3), min(SIZE, s.stop + 3)) for s in box)
    own = labels[window]
    mask = own == number
    inner = _erode(_erode(mask))
    if np.count_nonzero(inner) < 8:
        inner = _erode(mask)
    if np.count_nonzero(inner) < 8:
        ys, xs = np.nonzero(mask)
        centre = (window[1].start + float(xs.mean()) + 0.5, window[0].start + float(ys.mean()) + 0.5)
        return Detection(None, None, centre, float(mask.sum()), "too small")
    paint = np.median(pixels[window][inner], axis=0)
    towards = np.median(delta[window][inner], axis=0)
    alpha = np.clip(delta[window] @ (towards / np.dot(towards, towards)), 0.0, 1.0)
    alpha *= _dilate(_dilate(mask)) & ((own == 0) | mask)
    area = float(alpha.sum())
    ys, xs = np.indices(alpha.shape, sparse=True)
    y, x = float((alpha * ys).sum()) / area, float((alpha * xs).sum()) / area
    centre = (window[1].start + x + 0.5, window[0].start + y + 0.5)
    colour, doubt = _colour(paint), ""
    if not _pure(pixels[window], mask, inner, paint):
        colour, doubt = None, "more than one colour"
    elif colour is None:
        doubt = "no named colour"
    shape = None
    if not AREA[0] <= area <= AREA[1]:
        doubt = "too small or too large"
    else:
        shape = _shape(alpha, x, y, area)
        doubt = doubt or ("" if shape else "no clear outline")
    return Detection(colour, shape, centre, area, doubt)


def _pure(pixels: Floats, mask: NDArray[np.bool_], inner: NDArray[np.bool_], paint: Floats) -> bool:
    """Tell whether the interior has one colour: its hue up to the rim, its strength well inside.

    A pixel's difference is split into its part towards grey and ground, where blur and JPEG's coarse chroma
    move it, and the part across, which changes the hue.
    """
    rim = pixels[_erode(mask)] - paint
    luma = rim @ _LUMA
    chroma = rim - luma[:, None]
    along = paint - paint @ _LUMA
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    across = np.linalg.norm(chroma - (chroma @ along)[:, None] * along, axis=1)
    fade = np.linalg.norm(pixels[inner] - paint, axis=1)
    return float((across <= MAX_HUE_SHIFT).mean()) >= PURITY and float((fade <= MAX_FADE).mean()) >= PURITY


def _colour(paint: Floats) -> str | None:
    """Name an RGB colour (0 to 255), or None between the names."""
    red, green, blue = (float(c) / 255.0 for c in paint)
    high, low = max(red, green, blue), min(red, green, blue)
    if high < MIN_VALUE or high - low < MIN_SATURATION * high:
        return None
    hue = math.degrees(math.atan2(math.sqrt(3.0) * (green - blue), 2.0 * red - green - blue))
    return next((n for n, (a, b) in HUES.items() if a <= (hue - a) % 360.0 + a <= b), None)


def _shape(alpha: Floats, x: float, y: float, area: float) -> str | None:
    """Name the shape of a coverage map, or None where the outline fits no shape well or two alike."""
    unit = math.sqrt(area / math.pi)
    soft = 4.0 * float((alpha * (1.0 - alpha)).sum()) / (2.0 * math.pi * unit)
    residuals = _residuals(_profile(alpha, x, y) / unit)
    order = sorted(residuals, key=lambda name: residuals[name])
    best, second = order[0], order[1]
    if residuals[best] > RESIDUAL[best] or residuals[best] > RESIDUAL_RATIO * residuals[second] or soft > SOFTNESS:
        return None
    return best


def _profile(alpha: Floats, x: float, y: float) -> Floats:
    """Return for each direction the length of the ray from the centre that the object covers, in pixels."""
    height, width = alpha.shape
    reach = int(math.hypot(height, width) / 2 / _STEP) + 4
    xs, ys = x + _RAY_X[:, :reach], y + _RAY_Y[:, :reach]
    inside = (xs >= 0) & (ys >= 0) & (xs <= width - 1.001) & (ys <= height - 1.001)
    xs, ys = np.where(inside, xs, 0.0), np.where(inside, ys, 0.0)
    column, row = xs.astype(np.intp), ys.astype(np.intp)
    u, v = xs - column, ys - row
    flat, start = alpha.ravel(), row * width + column
    upper = flat[start] * (1 - u) + flat[start + 1] * u
    lower = flat[start + width] * (1 - u) + flat[start + width + 1] * u
    lengths: Floats = ((upper * (1 - v) + lower * v) * inside).sum(axis=1) * _STEP
    return lengths


def _residuals(profile: Floats) -> dict[str, float]:
    """Return the rms difference of a profile from each shape's, at the shape's best rotation."""
    squares = (_NORMS - 2.0 * (_TEMPLATES @ profile) + profile @ profile) / _ANGLES
    least = np.minimum.reduceat(np.maximum(squares, 0.0), _STARTS)
    return {shape: math.sqrt(float(square)) for shape, square in zip(SHAPES, least, strict=True)}


def _dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow a mask by one pixel in eight directions."""
    tall = mask.copy()
    tall[1:] |= mask[:-1]
    tall[:-1] |= mask[1:]
    wide = tall.copy()
    wide[:, 1:] |= tall[:, :-1]
    wide[:, :-1] |= tall[:, 1:]
    return wide


def _erode(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Shrink a mask by one pixel in four directions."""
    core = np.zeros_like(mask)
    core[1:-1, 1:-1] = mask[1:-1, 1:-1] & mask[2:, 1:-1] & mask[:-2, 1:-1] & mask[1:-1, 2:] & mask[1:-1, :-2]
    return core


def _rays() -> tuple[Floats, Floats]:
    """Return offsets `[angles, radii]` of the sampling points around a centre."""
    angles = np.arange(_ANGLES) * (2 * math.pi / _ANGLES)
    radii = np.arange(0.5, SIZE / 2 / _STEP) * _STEP
    return np.outer(np.sin(angles), radii).astype(np.float32), np.outer(-np.cos(angles), radii).astype(np.float32)


def _templates() -> tuple[Floats, NDArray[np.intp]]:
    """Return outlines `[templates, angles]` of unit-area-disc radius, and the index of each shape's first.

    Every polygon in steps of two degrees, and with its corners rounded.
    """
    rows: list[NDArray[np.float64]] = []
    starts: list[int] = []
    angles = np.arange(_ANGLES) * (2 * math.pi / _ANGLES)
    for shape in SHAPES:
        starts.append(len(rows))
        if shape == "circle":
            rows.append(np.ones(_ANGLES))
            continue
        tips, inner = STARS[shape]
        half = math.pi / tips
        notch_x, notch_y = inner * math.cos(half), inner * math.sin(half)
        for turn in np.arange(0.0, 2 * half, math.radians(2.0)):
            folded = np.abs((angles - turn + half) % (2 * half) - half)
            outline = notch_y / (np.cos(folded) * notch_y + np.sin(folded) * (1 - notch_x))
            outline = outline * math.sqrt(math.pi / (tips * notch_y))
            rows += [outline + share * (1.0 - outline) for share in ROUNDING]
    return np.array(rows, dtype=np.float32), np.array(starts)


_RAY_X, _RAY_Y = _rays()
_TEMPLATES, _STARTS = _templates()
_NORMS = np.einsum("ta,ta->t", _TEMPLATES, _TEMPLATES)
