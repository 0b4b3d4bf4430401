"""Validate the scenes checker: what it accepts, what it rejects, what it survives, how fast it is.

python benchmarks/checker.py --num 2400 --seed 0 [--out FILE]
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from limner.worlds.scenes.checker import detect, judge
from limner.worlds.scenes.grammar import CATEGORIES, Scene, clauses, corrupt, sample_scene
from limner.worlds.scenes.render import render

Picture = NDArray[np.uint8]
Change = Callable[[Picture, np.random.Generator], Picture]


def jpeg(image: Picture, quality: int) -> Picture:
    """Return the picture as a JPEG of this quality shows it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def shift(image: Picture, rng: np.random.Generator) -> Picture:
    """Move the picture by one pixel in a random direction, repeating its edge."""
    dy, dx = [(-1, 0), (1, 0), (0, -1), (0, 1), (1, 1), (-1, -1)][int(rng.integers(6))]
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return padded[1 - dy : 65 - dy, 1 - dx : 65 - dx]


def noise(image: Picture, rng: np.random.Generator, std: float) -> Picture:
    """Add Gaussian noise (std in 8-bit levels)."""
    return np.clip(np.round(image + rng.normal(0.0, std, image.shape)), 0, 255).astype(np.uint8)


def blur(image: Picture, sigma: float) -> Picture:
    """Blur with a Gaussian (sigma in pixels)."""
    return np.round(ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "ground truth": lambda image, rng: image,
    "JPEG quality 60": lambda image, rng: jpeg(image, 60),
    "1-pixel shift": shift,
    "noise std 4/255": lambda image, rng: noise(image, rng, 4.0),
    "blur sigma 0.7 px": lambda image, rng: blur(image, 0.7),
    "blur sigma 1.0 px": lambda image, rng: blur(image, 1.0),
}


def main() -> None:
    """Print the table, then the same numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=2400, help="ground-truth renders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    splits = ["heldout" if i % 4 == 0 else "train" for i in range(options.num)]
    scenes: list[Scene] = [sample_scene(rng, "heldout" if split == "heldout" else "train") for split in splits]
    images = [render(scene, rng) for scene in scenes]
    result: dict[str, object] = {"num": options.num, "seed": options.seed}
    accepted: dict[str, float] = {}
    for name, change in CHANGES.items():
        changed = [change(image, rng) for image in images]
        accepted[name] = float(np.mean([judge(detect(i), s).correct for i, s in zip(changed, scenes, strict=True)]))
        print(f"{name:28} accepted {accepted[name]:8.2%}")
    result["accepted"] = accepted
    seen = [detect(image) for image in images]
    right = np.array([judge(d, s).correct for d, s in zip(seen, scenes, strict=True)])
    result["accepted_by_category"] = {
        name: float(right[[s.category == name for s in scenes]].mean()) for name in CATEGORIES
    }
    swapped: dict[str, tuple[float, int]] = {}
    for clause in ("count", "colour", "shape", "relation"):
        pairs = [(d, corrupt(s, rng, clause)) for d, s in zip(seen, scenes, strict=True) if clause in clauses(s)]
        swapped[clause] = float(np.mean([judge(d, s).correct for d, s in pairs])), len(pairs)
        print(f"caption with wrong {clause:9} accepted {swapped[clause][0]:8.2%} of {len(pairs)}")
    result["accepted_with_one_clause_changed"] = swapped
    times = []
    for image, scene in zip(images, scenes, strict=True):
        start = time.process_time()
        judge(detect(image), scene)
        times.append(1000 * (time.process_time() - start))
    result["cpu_milliseconds"] = {"median": float(np.median(times)), "mean": float(np.mean(times))}
    print(f"CPU milliseconds an image: median {np.median(times):.2f}, mean {np.mean(times):.2f}")
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
