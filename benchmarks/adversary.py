"""Ask an independent judge about the pictures that the checker accepts from tuned models: was the checker fooled?

    python benchmarks/adversary.py runs/scenes-0 [runs/scenes-1 ...] [--out docs/results]

Takes the held-out pictures that each run drew after training (`samples/after-sampler`), keeps those that the checker
accepts, and reports how often a classifier that was trained on renders alone agrees, with 95 % intervals (Student's t)
over prompts.
Writes adversary.json, and accepted.png: 64 accepted pictures drawn at random, sixteen of each category, one category
under the other; a red frame marks those on which the classifier disagrees.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.evaluate.statistics import mean_interval
from limner.evaluate.store import load
from limner.report.file import write_text
from limner.worlds.scenes.checker import check_batch
from limner.worlds.scenes.classifier import agrees_batch
from limner.worlds.scenes.grammar import CATEGORIES, Scene

COLUMNS = 16
PER_CATEGORY = 16
FRAME = 2


def main() -> None:
    """Judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    prompts, pictures = drawn(options.runs)
    scenes = [Scene.from_dict(p.meta["scene"]) for p in prompts for _ in range(pictures.shape[1])]
    flat = pictures.reshape(-1, *pictures.shape[2:])
    shape = pictures.shape[:2]
    accepted = check_batch(flat, scenes)["correct"].reshape(shape).astype(bool)
    agreed = agrees_batch(flat, scenes).reshape(shape)
    found = {"runs": [path.name for path in options.runs], "accepted": int(accepted.sum()), "pictures": accepted.size}
    found["agreement on accepted"] = {"overall": agreement(agreed, accepted)} | {
        category: agreement(agreed[rows], accepted[rows])
        for category in CATEGORIES
        for rows in [np.array([p.meta["category"] == category for p in prompts])]
    }
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out / "adversary.json", text + "\n")
    Image.fromarray(gallery(prompts, pictures, accepted, agreed)).save(options.out / "accepted.png")


def drawn(runs: Sequence[Path]) -> tuple[list[Prompt], np.ndarray]:
    """Return the held-out prompts of the runs and their pictures `[prompts, seeds, 64, 64, 3]`."""
    found = [load(path / "samples" / "after-sampler") for path in runs]
    missing = [str(path) for path, evaluation in zip(runs, found, strict=True) if evaluation is None]
    if missing:
        raise SystemExit(f"no finished run: {', '.join(missing)}")
    whole = [evaluation for evaluation in found if evaluation is not None]
    prompts = [prompt for evaluation in whole for prompt in evaluation.prompts]
    return prompts, torch.cat([evaluation.stills for evaluation in whole]).permute(0, 1, 3, 4, 2).numpy()


def agreement(agreed: np.ndarray, accepted: np.ndarray) -> dict[str, float]:
    """Return the share of the accepted pictures on which the classifier agrees."""
    return asdict(mean_interval(torch.from_numpy(agreed).float(), torch.from_numpy(accepted), within=(0.0, 1.0)))


def gallery(prompts: Sequence[Prompt], pictures: np.ndarray, accepted: np.ndarray, agreed: np.ndarray) -> np.ndarray:
    """Return one picture of `PER_CATEGORY` accepted pictures of each category, framed."""
    rng = np.random.default_rng(Rng(("accepted",)).seed())
    tiles = []
    for category in CATEGORIES:
        mine = np.array([p.meta["category"] == category for p in prompts])
        cells = np.argwhere(accepted & mine[:, None])
        for row, column in rng.permutation(cells)[:PER_CATEGORY]:
            tile = np.pad(pictures[row, column], ((FRAME, FRAME), (FRAME, FRAME), (0, 0)), constant_values=255)
            if not agreed[row, column]:
                tile[:FRAME], tile[-FRAME:], tile[:, :FRAME], tile[:, -FRAME:] = [(220, 0, 0)] * 4
            tiles.append(tile)
    size = pictures.shape[2] + 2 * FRAME
    tiles += [np.full((size, size, 3), 255, np.uint8)] * (-len(tiles) % COLUMNS)
    grid = np.stack(tiles).reshape(-1, COLUMNS, size, size, 3)
    return grid.transpose(0, 2, 1, 3, 4).reshape(-1, COLUMNS * size, 3)


if __name__ == "__main__":
    main()
