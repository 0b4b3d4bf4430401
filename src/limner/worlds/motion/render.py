"""Draw a motion: soft, filled shapes on a plain light ground, 13 frames of 32x32 sRGB, with what is true of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from limner.worlds.motion.grammar import Motion, Thing
from limner.worlds.scenes.render import REACH, TILT, coverage, paint

Floats = NDArray[np.float64]

SIZE, FRAMES, FPS = 32, 13, 8.0
"""Frames - 1 is divisible by 4, as the temporal compression of video autoencoders wants it."""
MARGIN = 1.2
"""Least distance in pixels from an object's circumscribed circle to the edge."""
SLOW, QUICK = (0.32, 0.58), (1.15, 1.45)
"""Pixels a frame."""
FALL = (0.16, 0.22)
"""Pixels a frame squared: 11.5 to 15.8 pixels in a clip, from rest."""
RESTITUTION = (0.65, 0.95)
WAYS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
"""Unit vectors, y downwards."""

_TIMES = np.arange(FRAMES, dtype=np.float64)
_YS, _XS = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5, indexing="ij")


@dataclass(frozen=True)
class Clip:
    """A clip and what is true of it; objects in the order of the caption, x to the right and y downwards in pixels."""

    frames: NDArray[np.uint8]
    """`[frames, height, width, 3]`."""
    positions: Floats
    """Centres, `[frames, objects, 2]`."""
    velocities: Floats
    """Pixels a frame, at the time of each frame, `[frames, objects, 2]`."""
    masks: Floats
    """The share of each pixel that an object visibly covers, `[frames, objects, height, width]`."""
    depth: tuple[int, ...]
    """Objects, the farthest first."""

    fps: ClassVar[float] = FPS

    @property
    def flow(self) -> Floats:
        """How far what a pixel shows moves until the next frame, `[frames - 1, 2, height, width]`; the ground: 0."""
        steps = np.diff(self.positions, axis=0)
        visible = self.masks[:-1] >= 0.5
        moved: Floats = np.einsum("tnhw,tnc->tchw", visible, steps)
        return moved


def render(motion: Motion, rng: np.random.Generator) -> Clip:
    """Draw the motion at a random place, size, tilt and speed."""
    reach, positions, velocities = _placed(motion, rng)
    depth = (1, 0) if motion.depth == "in front of" else tuple(range(len(motion.things)))
    return _drawn(motion.things, reach, positions, velocities, depth, rng)


def crowd(motions: Sequence[Motion], rng: np.random.Generator) -> Clip:
    """Draw several motions at once, each thing before or behind the others as it falls."""
    things = [thing for motion in motions for thing in motion.things]
    placed = [_placed(motion, rng) for motion in motions]
    reach = np.concatenate([each for each, _, _ in placed])
    positions, velocities = (np.concatenate([each[i] for each in placed], axis=1) for i in (1, 2))
    depth = tuple(int(i) for i in rng.permutation(len(things)))
    return _drawn(things, reach, positions, velocities, depth, rng)


def _placed(motion: Motion, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Return how far things reach from their centres, their positions, and their velocities."""
    low, high = (4.2, 5.0) if len(motion.things) == 1 else (3.7, 4.1)
    radii = rng.uniform(low, high, len(motion.things))
    if motion.category == "occlusion":
        mover_behind = motion.depth == "behind"
        radii = np.array([rng.uniform(3.5, 3.8), rng.uniform(5.0, 5.4) if mover_behind else rng.uniform(4.8, 5.2)])
    reach = radii * [REACH[thing.shape] for thing in motion.things]
    return reach, *_paths(motion, reach, rng)


def _drawn(
    things: Sequence[Thing],
    reach: Floats,
    positions: Floats,
    velocities: Floats,
    depth: tuple[int, ...],
    rng: np.random.Generator,
) -> Clip:
    """Draw things along their paths, the farthest first, on one ground."""
    ground = np.full((SIZE, SIZE, 3), rng.uniform(0.90, 0.97) + rng.uniform(-0.012, 0.012, 3))
    tilts = rng.uniform(-TILT, TILT, len(things))
    paints = [paint(thing.colour, rng) for thing in things]
    frames = np.repeat(ground[None], FRAMES, axis=0)
    masks = np.zeros((FRAMES, len(things), SIZE, SIZE))
    for i in depth:
        dx = _XS - positions[:, i, 0, None, None]
        dy = _YS - positions[:, i, 1, None, None]
        covered = coverage(things[i].shape, dx, dy, float(reach[i]), float(tilts[i]))
        masks *= 1 - covered[:, None]
        masks[:, i] = covered
        frames += covered[..., None] * (paints[i] - frames)
    return Clip(np.round(frames * 255).astype(np.uint8), positions, velocities, masks, depth)


def _paths(motion: Motion, reach: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return positions and velocities, `[frames, objects, 2]`."""
    border = reach + MARGIN
    match motion.category:
        case "still":
            return _lines([_anywhere(border[0], np.zeros(2), rng)], np.zeros((1, 2)))
        case "gravity":
            return _fall(border[0], rng)
        case "bounce":
            return _bounce(border[0], rng)
        case "cross":
            return _cross(border, rng)
        case "follow":
            return _follow(motion, reach, rng)
        case "occlusion":
            return _pass(border, rng)
    fastest = (SIZE - 2 * border[0]) / (FRAMES - 1)
    slow = motion.speed == "slowly" or (motion.speed is None and rng.random() < 0.5)
    velocity = np.array(WAYS[motion.direction or "left"]) * min(rng.uniform(*(SLOW if slow else QUICK)), fastest)
    return _lines([_anywhere(border[0], velocity * (FRAMES - 1), rng)], velocity[None])


def _anywhere(border: float, travel: Floats, rng: np.random.Generator) -> Floats:
    """Draw where a journey begins, so that it stays inside the picture."""
    low, high = border - np.minimum(travel, 0), SIZE - border - np.maximum(travel, 0)
    return low + rng.random(2) * np.maximum(high - low, 0)


def _lines(starts: Sequence[Floats], velocities: Floats) -> tuple[Floats, Floats]:
    """Return uniform motion."""
    positions = np.array(starts)[None] + _TIMES[:, None, None] * velocities[None]
    return positions, np.broadcast_to(velocities, positions.shape).copy()


def _fall(border: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Fall from rest: y = y0 + a t^2 / 2."""
    most = 2 * (SIZE - 2 * border) / (FRAMES - 1) ** 2
    a = min(rng.uniform(*FALL), most)
    start = _anywhere(border, np.array([0.0, a * (FRAMES - 1) ** 2 / 2]), rng)
    return _upright(start[0], start[1] + a * _TIMES**2 / 2, a * _TIMES)


def _bounce(border: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Fall from rest onto the floor at time c, and rise with `restitution` times the speed of the impact."""
    floor, height, c = SIZE - border, rng.uniform(0.85, 1.0) * (SIZE - 2 * border), rng.uniform(5.2, 7.4)
    a, restitution = 2 * height / c**2, rng.uniform(*RESTITUTION)
    after = np.maximum(_TIMES - c, 0)
    up = restitution * a * c
    y = np.where(_TIMES < c, floor - height + a * _TIMES**2 / 2, floor - up * after + a * after**2 / 2)
    return _upright(rng.uniform(border, SIZE - border), y, np.where(_TIMES < c, a * _TIMES, a * after - up))


def _upright(x: float, y: Floats, speed: Floats) -> tuple[Floats, Floats]:
    zero = np.zeros_like(y)
    return np.stack([zero + x, y], axis=-1)[:, None], np.stack([zero, speed], axis=-1)[:, None]


def _cross(border: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Move sideways in opposite directions, one above the other."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    room = SIZE - 2 * border
    travel = room * rng.uniform(0.75, 1.0, 2) * (sign, -sign)
    x = np.where(travel > 0, border, SIZE - border)
    upper = int(rng.integers(2))
    y = np.empty(2)
    y[upper], y[1 - upper] = border[upper], SIZE - border[1 - upper]
    slack = SIZE - 2 * border.sum() + 2 * MARGIN - 1.5
    y[upper] += rng.uniform(0, max(slack, 0))
    return _lines([*np.stack([x, y], axis=1)], np.stack([travel / (FRAMES - 1), np.zeros(2)], axis=1))


def _follow(motion: Motion, reach: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Move one behind the other, at one speed and distance."""
    way = np.array(WAYS[motion.direction or "left"])
    gap = reach.sum() + 1.0
    room = SIZE - 2 * MARGIN - 2 * reach.sum() - 1.0
    speed = min(rng.uniform(*SLOW), room / (FRAMES - 1))
    spare = room - speed * (FRAMES - 1)
    along = MARGIN + reach[0] + rng.uniform(0, max(spare, 0))  # of the follower, from where both come from
    across = rng.uniform(reach.max() + MARGIN, SIZE - reach.max() - MARGIN)
    first = along if way.sum() > 0 else SIZE - along
    follower = np.where(way != 0, first, across)
    return _lines([follower, follower + gap * way], np.stack([speed * way, speed * way]))


def _pass(border: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Move from side to side, along rows or columns, past one that stays in the middle."""
    along = int(rng.integers(2))
    sign = 1.0 if rng.random() < 0.5 else -1.0
    middle = SIZE / 2 + rng.uniform(-0.4, 0.4)
    across = rng.uniform(border[1], SIZE - border[1])
    start, velocity, other = np.empty(2), np.zeros(2), np.empty(2)
    start[along] = border[0] if sign > 0 else SIZE - border[0]
    velocity[along] = sign * (SIZE - 2 * border[0]) / (FRAMES - 1)
    start[1 - along] = across + rng.uniform(-0.4, 0.4)
    other[along], other[1 - along] = middle, across
    return _lines([start, other], np.stack([velocity, np.zeros(2)]))
