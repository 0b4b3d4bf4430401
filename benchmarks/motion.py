"""Validate the motion world's checker: what it accepts, what it rejects, what it survives, how fast it is.

python benchmarks/motion.py --num 2000 --seed 0 --out docs/results/motion.json
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limner.worlds.motion.checker import judge
from limner.worlds.motion.grammar import CATEGORIES, clauses, corrupt, sample_motion
from limner.worlds.motion.render import render
from limner.worlds.motion.tracker import track

Frames = NDArray[np.uint8]
Change = Callable[[Frames, np.random.Generator], Frames]


def jpeg(frames: Frames, quality: int, chroma: str = "4:4:4") -> Frames:
    """Return each frame as a JPEG of this quality shows it; "4:2:0" keeps chroma at half resolution, 16 x 16."""
    return np.stack([_through_jpeg(frame, quality, chroma) for frame in frames])


def _through_jpeg(frame: Frames, quality: int, chroma: str) -> Frames:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality, subsampling=chroma)
    return np.asarray(Image.open(buffer))


def shift(frames: Frames, rng: np.random.Generator) -> Frames:
    """Move the whole clip by one pixel in a random direction, repeating its edge."""
    dy, dx = [(-1, 0), (1, 0), (0, -1), (0, 1), (1, 1), (-1, -1)][int(rng.integers(6))]
    padded = np.pad(frames, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    size = frames.shape[1]
    return padded[:, 1 - dy : size + 1 - dy, 1 - dx : size + 1 - dx]


def noise(frames: Frames, rng: np.random.Generator, std: float) -> Frames:
    """Add Gaussian noise (std in 8-bit levels)."""
    return np.clip(np.round(frames + rng.normal(0.0, std, frames.shape)), 0, 255).astype(np.uint8)


CHANGES: Mapping[str, Change] = {
    "ground truth": lambda frames, rng: frames,
    "JPEG quality 80": lambda frames, rng: jpeg(frames, 80),
    "JPEG quality 80, chroma halved": lambda frames, rng: jpeg(frames, 80, "4:2:0"),
    "1-pixel shift": shift,
    "noise std 4/255": lambda frames, rng: noise(frames, rng, 4.0),
}


def figures(num: int, seed: int) -> dict[str, object]:
    """Return all that is measured on `num` renders, a quarter of them of held-out motions."""
    rng = np.random.default_rng(seed)
    motions = [sample_motion(rng, "heldout" if i % 4 == 0 else "train") for i in range(num)]
    clips = [render(motion, rng).frames for motion in motions]
    accepted = {
        name: float(np.mean([judge(track(change(c, rng)), m).correct for c, m in zip(clips, motions, strict=True)]))
        for name, change in CHANGES.items()
    }
    seen, times = [], []
    for clip, motion in zip(clips, motions, strict=True):
        start = time.process_time()
        seen.append(track(clip))
        judge(seen[-1], motion)
        times.append(1000 * (time.process_time() - start))
    right, wrong = defaultdict(list), defaultdict(list)
    for tracks, motion in zip(seen, motions, strict=True):
        right[motion.category].append(judge(tracks, motion).correct)
        for clause in clauses(motion):
            wrong[clause].append(judge(tracks, corrupt(motion, rng, clause)).correct)
    return {
        "num": num,
        "seed": seed,
        "accepted": accepted,
        "accepted_by_category": {name: float(np.mean(right[name])) for name in CATEGORIES},
        "accepted_with_one_clause_changed": {name: (float(np.mean(w)), len(w)) for name, w in wrong.items()},
        "cpu_milliseconds": {"median": float(np.median(times)), "mean": float(np.mean(times))},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=2000, help="renders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    text = json.dumps(figures(options.num, options.seed), indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
