"""Draw the README's picture: the same prompts, seeds and noise before and after a run, drawn by chance.

    python benchmarks/picture.py runs/scenes-0 [--out docs/results/demo.png]

The pairs are the report's unbiased "Random" section: twelve of all held-out (prompt, seed) pairs, by a fixed seed. Of
clips it shows every other frame, side by side, a row a pair: before on the left, after on the right.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from limner.core.errors import UserError
from limner.core.picture import decoded_clip
from limner.evaluate.selection import galleries
from limner.evaluate.store import load
from limner.report.gallery import save_grid

COLUMNS = 6
MOST = 1000
"""Frames of a clip that are read."""


def main() -> None:
    """Read a run's pictures, and write the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/demo.png"))
    options = parser.parse_args()
    before, after = (load(options.run / "samples" / f"{moment}-sampler") for moment in ("before", "after"))
    if before is None or after is None:
        raise UserError(f"{options.run} has no finished evaluation before and after")
    pairs = galleries(before, after, size=2 * COLUMNS)[-1].pairs
    if all(pair.before_file and pair.after_file for pair in pairs):
        strips = [_strip(file) for pair in pairs for file in (pair.before_file, pair.after_file) if file]
        verdicts = [
            f"{pair.prompt}: {_verdict(told)}" for pair in pairs for told in (pair.before_reward, pair.after_reward)
        ]
        save_grid(options.out, torch.stack(strips), verdicts, columns=2)
        return
    pictures, labels = [], []
    for start in range(0, len(pairs), COLUMNS):
        row = pairs[start : start + COLUMNS]
        pictures += [pair.before for pair in row] + [pair.after for pair in row]
        labels += [pair.prompt for pair in row] + [f"after: {_verdict(pair.after_reward)}" for pair in row]
    save_grid(options.out, torch.stack(pictures), labels, COLUMNS)


def _strip(file: Path) -> UInt8[Tensor, "3 height width"]:
    """Return every other frame of a clip, side by side."""
    frames = [np.asarray(frame) for frame in decoded_clip(file, MOST)[::2]]
    return torch.from_numpy(np.concatenate(frames, axis=1)).permute(2, 0, 1)


def _verdict(reward: float | None) -> str:
    return "not judged" if reward is None else "right" if reward == 1 else "wrong"


if __name__ == "__main__":
    main()
