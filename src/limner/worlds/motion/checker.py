"""Tell from the pixels of a clip which clauses of a caption hold.

Reinforcement learning will be its adversary, so whatever is odd counts against the clip: a thing that is not the same
in every frame, in pieces, or beside something else, is not what was asked for, and a path that no steady motion
explains goes nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner.worlds.motion.grammar import PAIRED, Motion
from limner.worlds.motion.render import WAYS
from limner.worlds.motion.tracker import Track, track

Floats = NDArray[np.floating[Any]]

CLAUSES = ("identity", "count", "direction", "speed", "acceleration", "bounce", "occlusion", "order")

STILL = 0.7
"""Largest distance in pixels from its mean place of a thing that stays still."""
ROUGH = 0.4
"""Largest rms distance in pixels of a path from the motion that explains it."""
LEAST_TRAVEL = 2.8
"""Pixels in a clip."""
SLANT = 0.25
"""Largest travel across the direction, as a share of that along it."""
SPEED = {"slowly": (0.2, 0.75), "quickly": (0.95, 2.4)}
"""Pixels a frame."""
UNIFORM, FALLING = 0.055, (0.1, 0.3)
"""Acceleration in pixels a frame squared: largest of uniform motion, and range of a fall."""
TUMBLING = (0.5, 2.2)
"""Acceleration of what bounces."""
REBOUND = (0.4, 1.1)
"""Speed after the bounce over speed before it."""
HIDDEN, COVERED = 0.5, 0.93
"""Share of a thing that is seen at most when another hides it, and at least of the one in front."""


@dataclass(frozen=True)
class Verdict:
    """Which clauses of a caption a clip satisfies; a clause that the caption lacks is True."""

    identity: bool
    count: bool
    direction: bool
    speed: bool
    acceleration: bool
    bounce: bool
    occlusion: bool
    order: bool
    fraction: float
    """Mean of the clauses that the caption has."""

    @property
    def correct(self) -> bool:
        """Tell whether every clause holds."""
        return all(vars(self)[name] for name in CLAUSES)


def check(frames: NDArray[np.uint8], motion: Motion) -> Verdict:
    """Judge one clip `[frames, 32, 32, 3]` against a motion."""
    return judge(track(frames), motion)


def judge(tracks: Sequence[Track], motion: Motion) -> Verdict:
    """Judge what was seen against a motion. Things are told apart by colour, so each wanted one is looked for.

    What moves is asked of the tracks of the wanted colours, or else of the largest ones: a blue circle that moves left
    is no red one, but it does move left.
    """
    wanted = len(motion.things)
    chosen = _assigned(tracks, motion)
    same = [(t.colour, t.shape) == (w.colour, w.shape) for t, w in zip(chosen, motion.things, strict=False)]
    held: dict[str, bool] = {
        "identity": len(chosen) == wanted and all(same) and all(each.steady for each in chosen),
        "count": len(tracks) == wanted and all(_alone(t, motion.category == "occlusion") for t in tracks),
    }
    held |= _moves(chosen, motion) if len(chosen) == wanted else dict.fromkeys(_own(motion), False)
    verdict = {name: held.get(name, True) for name in CLAUSES}
    return Verdict(**verdict, fraction=sum(held.values()) / len(held))


def _assigned(tracks: Sequence[Track], motion: Motion) -> list[Track]:
    """Return the track of each wanted thing: that of its colour, or else any that is left."""
    left = list(tracks)
    chosen: list[Track | None] = []
    for thing in motion.things:
        found = next((each for each in left if each.colour == thing.colour), None)
        chosen.append(found)
        left = [each for each in left if each is not found]
    filled = [each if each is not None else left.pop(0) if left else None for each in chosen]
    return [each for each in filled if each is not None]


def _alone(seen: Track, may_hide: bool) -> bool:
    """Tell whether a track is one piece in every frame in which nothing may hide it."""
    return bool((seen.pieces[seen.whole] == 1).all() and (may_hide or seen.whole.all()))


def _own(motion: Motion) -> tuple[str, ...]:
    """Return the clauses that a caption has beside identity and count."""
    return {
        "direction": ("direction", "acceleration"),
        "speed": ("direction", "speed", "acceleration"),
        "still": ("speed",),
        "gravity": ("direction", "acceleration"),
        "bounce": ("bounce",),
        "cross": ("direction", "order"),
        "follow": ("direction", "order"),
        "occlusion": ("direction", "occlusion", "order"),
    }[motion.category]


def _moves(tracks: Sequence[Track], motion: Motion) -> dict[str, bool]:
    """Return the clauses about places and times."""
    first = tracks[0]
    if motion.category in PAIRED:
        return {"cross": _crosses, "follow": _follows, "occlusion": _passes}[motion.category](first, tracks[1], motion)
    if not np.isfinite(first.centres).all():
        return dict.fromkeys(_own(motion), False)
    if motion.category == "still":
        away = np.linalg.norm(first.centres - first.centres.mean(0), axis=1)
        return {"speed": bool(away.max() <= STILL)}
    if motion.category == "bounce":
        return {"bounce": _bounces(first.centres)}
    way = np.array(WAYS["down" if motion.category == "gravity" else motion.direction or ""])
    along, acceleration, rough = _quadratic(first.centres, way)
    held = {"direction": _goes(first.centres, way) and rough <= ROUGH}
    if motion.speed is not None:
        low, high = SPEED[motion.speed]
        held["speed"] = bool(low <= along <= high)
    if motion.category == "gravity":
        held["acceleration"] = bool(FALLING[0] <= acceleration <= FALLING[1])
    else:
        held["acceleration"] = bool(abs(acceleration) <= UNIFORM)
    return held


def _goes(centres: Floats, way: Floats) -> bool:
    """Tell whether a path leads along a unit vector, and never back."""
    steps = np.diff(centres, axis=0)
    along, across = steps @ way, steps @ way[::-1]
    return bool(
        along.sum() >= LEAST_TRAVEL and abs(across.sum()) <= max(SLANT * along.sum(), 0.8) and along.min() > -0.35
    )


def _quadratic(centres: Floats, way: Floats) -> tuple[float, float, float]:
    """Return mean speed and acceleration along a unit vector, and the rms distance from the best such motion."""
    times = np.arange(len(centres)) - (len(centres) - 1) / 2
    basis = np.stack([np.ones_like(times), times, times**2 / 2], axis=1)
    fit, *_ = np.linalg.lstsq(basis, centres, rcond=None)
    rough = np.sqrt(np.square(centres - basis @ fit).sum(1).mean())
    return float(fit[1] @ way), float(fit[2] @ way), float(rough)


def _uniform(centres: Floats, seen: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Return the velocity of a path, and the rms distance from uniform motion, over the frames in which it is seen."""
    times = np.flatnonzero(seen)
    if len(times) < 4:
        return np.zeros(2), np.inf
    basis = np.stack([np.ones(len(times)), times], axis=1)
    fit, *_ = np.linalg.lstsq(basis, centres[times], rcond=None)
    return fit[1], float(np.sqrt(np.square(centres[times] - basis @ fit).sum(1).mean()))


def _bounces(centres: Floats) -> bool:
    """Tell whether a thing falls, is thrown back once, and rises: two parabolas with one acceleration."""
    times, y = np.arange(len(centres), dtype=float), centres[:, 1]
    if np.ptp(centres[:, 0]) > 1.6:
        return False
    best = (np.inf, 0, np.zeros(5))
    for k in range(3, len(times) - 3):
        after = times > k
        basis = np.stack([np.ones_like(times), times, times**2 / 2, after, after * times], axis=1)
        fit, *_ = np.linalg.lstsq(basis, y, rcond=None)
        best = min(best, (float(np.sqrt(np.square(y - basis @ fit).mean())), k, fit), key=lambda each: each[0])
    rough, k, (_, start, a, jump, kick) = best
    if rough > ROUGH or not TUMBLING[0] <= a <= TUMBLING[1] or kick >= 0:
        return False
    meeting = -jump / kick
    fast, back = start + a * meeting, -(start + kick + a * meeting)
    return bool(k - 0.6 <= meeting <= k + 1.6 and abs(start) <= 1.2 and REBOUND[0] * fast <= back <= REBOUND[1] * fast)


def _crosses(first: Track, second: Track, motion: Motion) -> dict[str, bool]:
    """Two things move sideways in opposite directions, and end on the other's side."""
    centres = (first.centres, second.centres)
    if not all(np.isfinite(each).all() for each in centres):
        return dict.fromkeys(_own(motion), False)
    apart = first.centres[:, 0] - second.centres[:, 0]
    way = np.array([1.0 if apart[0] < 0 else -1.0, 0.0])
    smooth = all(_uniform(each, np.ones(len(each), dtype=bool))[1] <= ROUGH for each in centres)
    direction = smooth and _goes(centres[0], way) and _goes(centres[1], -way)
    order = abs(apart[0]) >= 4 and abs(apart[-1]) >= 4 and apart[0] * apart[-1] < 0
    return {"direction": direction, "order": bool(order)}


def _follows(first: Track, second: Track, motion: Motion) -> dict[str, bool]:
    """The first moves behind the second, at a steady distance."""
    way = np.array(WAYS[motion.direction or ""])
    centres = (first.centres, second.centres)
    if not all(np.isfinite(each).all() for each in centres):
        return dict.fromkeys(_own(motion), False)
    smooth = all(_uniform(each, np.ones(len(each), dtype=bool))[1] <= ROUGH for each in centres)
    ahead, beside = (second.centres - first.centres) @ way, (second.centres - first.centres) @ way[::-1]
    order = ahead.min() >= 4 and np.ptp(ahead) <= 1.6 and np.abs(beside).max() <= 3
    return {"direction": smooth and all(_goes(each, way) for each in centres), "order": bool(order)}


def _passes(first: Track, second: Track, motion: Motion) -> dict[str, bool]:
    """The first moves past the second, which stays; the one behind is hidden meanwhile, and whole before and after."""
    full = [float(np.quantile(each.areas, 0.8)) for each in (first, second)]
    share = [each.areas / area for each, area in zip((first, second), full, strict=True)]
    velocity, rough = _uniform(first.centres, first.whole)
    _, stays = _uniform(second.centres, second.whole)
    still = np.abs(second.centres[second.whole] - second.centres[second.whole].mean(0)).max() <= STILL
    speed = float(np.linalg.norm(velocity))
    straight = speed * (len(first.centres) - 1) >= 10 and np.abs(velocity).min() <= SLANT * np.abs(velocity).max()
    back, front = (share[0], share[1]) if motion.depth == "behind" else (share[1], share[0])
    first_centres = first.centres[[0, -1]] @ np.abs(np.sign(np.round(velocity, 1)))
    middle = np.nanmean(second.centres, axis=0) @ np.abs(np.sign(np.round(velocity, 1)))
    passed = (first_centres[0] - middle) * (first_centres[1] - middle) < 0
    whole = all(each.whole[[0, 1, -2, -1]].all() for each in (first, second))
    most = HIDDEN if motion.depth == "behind" else 0.75
    return {
        "direction": bool(still and stays <= ROUGH and straight and passed and rough <= 1.2 * ROUGH),
        "occlusion": bool(whole and min(back.min(), front.min()) <= 0.75),
        "order": bool(back.min() <= most and front.min() >= COVERED - 0.05),
    }
