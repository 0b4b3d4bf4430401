"""Draw the README's picture: the same prompts, seeds and noise before and after a run, drawn by chance.

    python benchmarks/picture.py runs/scenes-0 [--out docs/results/demo.png]

The pairs are the report's unbiased "Random" section: twelve of all held-out (prompt, seed) pairs, by a fixed seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from limner.core.errors import UserError
from limner.evaluate.selection import galleries
from limner.evaluate.store import load
from limner.report.gallery import save_grid

COLUMNS = 6


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
    pictures, labels = [], []
    for start in range(0, len(pairs), COLUMNS):
        row = pairs[start : start + COLUMNS]
        pictures += [pair.before for pair in row] + [pair.after for pair in row]
        labels += [pair.prompt for pair in row] + [f"after: {_verdict(pair.after_reward)}" for pair in row]
    save_grid(options.out, torch.stack(pictures), labels, COLUMNS)


def _verdict(reward: float | None) -> str:
    return "not judged" if reward is None else "right" if reward == 1 else "wrong"


if __name__ == "__main__":
    main()
