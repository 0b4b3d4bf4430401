"""Metric validity: what each way to spoil a clip does to each reward of time. Writes the table of docs/video.md.

python benchmarks/validity.py
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from limner.core.media import Videos
from limner.core.protocols import Reward
from limner.core.types import Prompt
from limner.judging.checked import Checked
from limner.rewards.video.motion import VideoDynamics, video_warp
from limner.rewards.video.steadiness import video_flicker, video_smoothness
from limner.rewards.video.subject import video_consistency, video_track
from limner.worlds.motion import parse, render
from limner.worlds.motion.render import FPS
from limner.worlds.motion.reward import motion

Frames = NDArray[np.uint8]
PAGE = Path(__file__).parents[1] / "docs" / "video.md"
BEGIN, END = "<!-- validity: begin -->\n", "<!-- validity: end -->"
MARGIN = 0.03
"""Less is no change."""

COLOURS = ("red", "blue", "green", "purple")
ASKED = tuple(f"a {colour} circle {verb}" for colour in COLOURS for verb in ("moves right quickly", "falls"))
TERMS = ("flicker", "smoothness", "warp", "dynamics", "consistency", "path", "mass", "survival", "motion")


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
    "identity swap": {"consistency": 0.3, "motion": 0.9},
    "vanish": {"mass": 0.3, "survival": 0.2, "motion": 0.9},
    "teleport": {"path": 0.5, "motion": 0.4},
    "jitter": {"path": 0.4, "motion": 0.4},
    "camera shake": {"path": 0.5, "motion": 0.6},
    "loop": {"path": 0.5, "motion": 0.9},
    "one bad frame": {"survival": 0.05, "mass": 0.3, "motion": 0.9},
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


def scores(clips: list[Frames]) -> dict[str, float]:
    """Return the mean of each term over clips."""
    media = Videos(torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).contiguous(), FPS)
    prompts = [Prompt(text) for text in ASKED]
    judges: dict[str, Reward] = {
        "flicker": video_flicker,
        "smoothness": video_smoothness,
        "warp": video_warp,
        "dynamics": VideoDynamics(),
        "consistency": video_consistency,
        "track": video_track,
        "motion": motion,
    }
    found = {name: Checked(name, judge)(media, prompts) for name, judge in judges.items()}
    columns = {name: output.score for name, output in found.items()} | dict(found["track"].components)
    return {name: float(columns[name].nanmean()) for name in TERMS}


def measured() -> dict[str, dict[str, float]]:
    """Return the terms of clips as they are, and spoilt in each way."""
    clips = [render(parse(text), np.random.default_rng(i)).frames for i, text in enumerate(ASKED)]
    changed = {name: [change(clip) for clip in clips] for name, change in SPOILT.items()}
    return {"as it is": scores(clips)} | {name: scores(each) for name, each in changed.items()}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Write the table: what must fall in bold."""
    lines = [f"| clip | {' | '.join(TERMS)} |", f"|---|{'--:|' * len(TERMS)}"]
    for name, terms in found.items():
        cells = [f"**{terms[t]:.2f}**" if t in MOVED.get(name, {}) else f"{terms[t]:.2f}" for t in TERMS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    written = table(measured())
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: BEGIN + written + END, text), encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
