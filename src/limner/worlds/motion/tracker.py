"""Read a clip back: which things it shows, and where each is in every frame, from pixels only.

Things of one clip differ in colour. Each pixel is unmixed into the ground and the colours that the clip shows, which
gives each colour a map of coverage; where a map lies is where the thing is, to a fraction of a pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limner.worlds.motion.render import SIZE
from limner.worlds.scenes.checker import HUES, MIN_SATURATION, MIN_VALUE
from limner.worlds.scenes.grammar import SHAPES
from limner.worlds.scenes.render import REACH, TILT, coverage

Floats = NDArray[np.float32]

FOREGROUND = 70.0
"""RGB distance from the ground (0 to 441) above which a pixel has a colour to be read."""
LEAST_PIXELS = 6.0
"""A colour that covers fewer a frame, on average over the clip, is no thing."""
LEFT_OVER, LEFT_PIXELS = 55.0, 6
"""RGB distance that no mixture of the clip's colours explains, and in how many pixels a frame may have it."""
FAINT = 0.12
"""Coverage that may be noise, or smear of JPEG's coarse chroma."""
PIECE = 2.5
"""Pixels of coverage from which a piece of a colour counts as one more thing."""
RESIDUAL = 0.105
"""Largest rms difference of an outline from a shape's, in units of the radius of the disc of equal area."""
CHANGE = 0.16
"""The same, of a frame's outline from the mean of the clip's."""

CHROMA_WEIGHT = 0.4
"""What a difference in chroma counts beside one in luma: JPEG and video keep chroma at half resolution."""


def _luma_weights(chroma: float) -> Floats:
    """Return the matrix that keeps a difference's luma and shrinks the rest of it."""
    luma = np.outer((0.299, 0.587, 0.114), np.ones(3))
    return (luma + chroma * (np.eye(3) - luma)).astype(np.float32)


_ANGLES, _STEP = 48, 0.5
_WEIGHTS = _luma_weights(CHROMA_WEIGHT)
_IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
_IN_PLANE[1] = True
_YS, _XS = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5, indexing="ij")
_FRAME = np.ones((SIZE, SIZE), dtype=bool)
_FRAME[1:-1, 1:-1] = False


@dataclass(frozen=True)
class Track:
    """One thing through the clip; a shape of None is unclear, and `steady` says whether it stays what it is."""

    colour: str
    shape: str | None
    centres: Floats
    """x and y in pixels, `[frames, 2]`; NaN where it is not seen."""
    areas: Floats
    """Pixels that it visibly covers, `[frames]`."""
    pieces: NDArray[np.int64]
    """In how many parts it is seen, `[frames]`."""
    steady: bool

    @property
    def whole(self) -> NDArray[np.bool_]:
        """In which frames all of it is seen."""
        return self.areas >= 0.88 * float(np.quantile(self.areas, 0.8))


def track(frames: NDArray[np.uint8]) -> list[Track]:
    """Follow the things of a clip `[frames, 32, 32, 3]`, the largest first; none if it is no plain scene throughout."""
    pixels = frames.astype(np.float32)
    ground = np.median(pixels[:, _FRAME].reshape(-1, 3), axis=0)
    each = np.median(pixels[:, _FRAME], axis=1)
    if ground.min() < 195 or np.ptp(ground) > 28 or np.abs(each - ground).max() > 12:
        return []
    delta = pixels - ground
    distance = np.sqrt(np.einsum("thwc,thwc->thw", delta, delta))
    strong = distance > FOREGROUND
    named = np.full(strong.shape, -1)
    named[strong] = _hue_names(pixels[strong])
    counts = np.bincount(named[named >= 0], minlength=len(HUES))
    found = [k for k in np.argsort(-counts) if counts[k] >= LEAST_PIXELS * len(frames)]
    if not 1 <= len(found) <= 3:
        return []
    paints = np.stack([_paint(delta[named == k]) for k in found])
    mixed = np.clip((delta @ _WEIGHTS) @ np.linalg.pinv(paints @ _WEIGHTS), 0.0, 1.0).astype(np.float32)
    rest = (delta - mixed @ paints) @ _WEIGHTS
    covers = _clean(mixed)
    odd = (np.einsum("thwc,thwc->thw", rest, rest) > LEFT_OVER**2).sum((1, 2)).max() > LEFT_PIXELS
    covers *= ndimage.binary_dilation(distance > 40, _IN_PLANE)[..., None]
    names = [*HUES]
    return [_follow(names[k], covers[..., i], odd) for i, k in enumerate(found)]


def _clean(cover: Floats) -> Floats:
    """Stretch coverage so that what is faint is none."""
    stretched: Floats = np.clip((cover - FAINT) / (1 - 2 * FAINT), 0.0, 1.0)
    return stretched


def _hue_names(rgb: Floats) -> NDArray[np.int64]:
    """Return the index in HUES of the name of each colour `[n, 3]`, -1 for none."""
    red, green, blue = rgb.T
    high, low = rgb.max(1), rgb.min(1)
    hue = np.degrees(np.arctan2(math.sqrt(3.0) * (green - blue), 2.0 * red - green - blue))
    names = np.full(len(rgb), -1)
    vivid = (high >= 255 * MIN_VALUE) & (high - low >= 0.6 * MIN_SATURATION * high)
    for i, (a, b) in enumerate(HUES.values()):
        names[vivid & ((hue - a) % 360.0 + a <= b)] = i
    return names


def _paint(delta: Floats) -> Floats:
    """Return the difference from the ground of a thing's inside: the median of its strongest half."""
    strength = np.einsum("nc,nc->n", delta, delta)
    paint: Floats = np.median(delta[strength >= np.median(strength)], axis=0)
    return paint


def _follow(colour: str, cover: Floats, odd: bool) -> Track:
    """Return the track of a map of coverage `[frames, height, width]`."""
    labels, found = ndimage.label(cover > 0.3, _IN_PLANE)
    masses = ndimage.sum_labels(cover, labels, np.arange(1, found + 1))
    planes = np.array([box[0].start for box in ndimage.find_objects(labels)], dtype=np.int64)
    pieces = np.bincount(planes[masses >= PIECE], minlength=len(cover))
    areas = cover.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        centres = np.stack([(cover * axis).sum((1, 2)) / areas for axis in (_XS, _YS)], axis=1)
    centres[areas < PIECE] = np.nan
    seen = areas >= 0.88 * np.quantile(areas, 0.8)
    outlines = _outlines(cover[seen], centres[seen])
    mean = outlines.mean(0)
    change = np.sqrt(np.square(outlines - mean).mean(1)).max()
    steady = not odd and change <= CHANGE and float(areas[seen].max() / areas[seen].min()) <= 1.25
    return Track(colour, _shape(mean, float(areas[seen].mean())), centres, areas, pieces, steady)


def _outlines(cover: Floats, centres: Floats) -> Floats:
    """Return the covered length of rays from each centre, `[frames, angles]`, over the radius of the equal disc."""
    angles = np.arange(_ANGLES) * (2 * math.pi / _ANGLES)
    radii = (np.arange(20) + 0.5) * _STEP
    xs = centres[:, 0, None, None] - 0.5 + np.sin(angles)[:, None] * radii
    ys = centres[:, 1, None, None] - 0.5 - np.cos(angles)[:, None] * radii
    planes = np.broadcast_to(np.arange(len(cover))[:, None, None], xs.shape)
    lengths = ndimage.map_coordinates(cover, [planes, ys, xs], order=1, mode="constant").sum(2) * _STEP
    outlines: Floats = lengths / np.sqrt(cover.sum((1, 2)) / math.pi)[:, None]
    return outlines


def _shape(outline: Floats, area: float) -> str | None:
    """Name the shape whose drawn outline is nearest, among those of about this area."""
    near = np.abs(np.log(_AREAS / area)) < 0.2
    if not near.any():
        return None
    squares = np.square(_TEMPLATES[near] - outline).mean(1)
    best = int(np.argmin(squares))
    return SHAPES[_NAMES[near][best]] if squares[best] <= RESIDUAL**2 else None


def _templates() -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Draw each shape in all its sizes and tilts, and read the outlines."""
    covers, names = [], []
    for name, shape in enumerate(SHAPES):
        for radius in np.geomspace(3.3, 5.6, 8):
            for tilt in (0.0,) if shape == "circle" else np.linspace(-1.5 * TILT, 1.5 * TILT, 7):
                for place in (16.0, 16.25, 16.5):
                    covers.append(coverage(shape, _XS - place, _YS - place, radius * REACH[shape], tilt))
                    names.append(name)
    cover = _clean(np.stack(covers).astype(np.float32))
    areas = cover.sum((1, 2))
    centres = np.stack([(cover * axis).sum((1, 2)) / areas for axis in (_XS, _YS)], axis=1)
    return _outlines(cover, centres), areas, np.array(names)


_TEMPLATES, _AREAS, _NAMES = _templates()
