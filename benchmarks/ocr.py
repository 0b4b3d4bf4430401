"""Validate the OCR reward on the words world: what it reads, what it survives, what fools it, how fast it is.

python benchmarks/ocr.py --num 1000 --seed 0 [--out docs/results/ocr.json]
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from limner.core.media import Images
from limner.core.types import RewardOutput
from limner.rewards.ocr import OCR
from limner.worlds.words.grammar import CATEGORIES, Split, sample_word, to_prompt
from limner.worlds.words.render import render

Picture = UInt8[np.ndarray, "height width 3"]
Change = Callable[[Picture, np.random.Generator], Picture]
SPLITS: tuple[Split, ...] = ("train", "heldout")


def jpeg(image: Picture, quality: int) -> Picture:
    """Return the picture as a JPEG of this quality shows it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def rescaled(image: Picture, factor: float) -> Picture:
    """Make the picture smaller by this factor, and large again."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((round(width * factor), round(height * factor)), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def noise(image: Picture, rng: np.random.Generator, std: float) -> Picture:
    """Add Gaussian noise (std in 8-bit levels)."""
    return np.clip(np.round(image + rng.normal(0.0, std, image.shape)), 0, 255).astype(np.uint8)


def blur(image: Picture, sigma: float) -> Picture:
    """Blur with a Gaussian (sigma in pixels)."""
    return np.round(ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))).astype(np.uint8)


def beside(image: Picture, text: str) -> Picture:
    """Write a small text along the picture's top or bottom, whichever is emptier."""
    edges = np.abs(np.diff(image.astype(int), axis=1)).sum(axis=(1, 2))
    height = image.shape[0]
    y = 1 if edges[: height // 4].sum() < edges[-height // 4 :].sum() else height - 13
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text((6, y), text, fill=(0, 0, 0), font=ImageFont.load_default(10))
    return np.asarray(picture)


CHANGES: dict[str, Change] = {
    "ground truth": lambda image, rng: image,
    "rescaled by 0.75": lambda image, rng: rescaled(image, 0.75),
    "rescaled by 0.5": lambda image, rng: rescaled(image, 0.5),
    "JPEG quality 60": lambda image, rng: jpeg(image, 60),
    "noise std 8/255": lambda image, rng: noise(image, rng, 8.0),
    "blur sigma 1.0 px": lambda image, rng: blur(image, 1.0),
    "rescaled by 0.75, JPEG 60": lambda image, rng: jpeg(rescaled(image, 0.75), 60),
}


def judged(reward: OCR, images: Sequence[Picture], words: Sequence[str]) -> RewardOutput:
    """Return the verdicts on pictures that should each say their word."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return reward(Images(pixels), [to_prompt(word) for word in words])


def misspelt(word: str, rng: np.random.Generator) -> str:
    """Change one letter of the word."""
    place = int(rng.integers(len(word)))
    others = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter != word[place]]
    return word[:place] + others[int(rng.integers(25))] + word[place + 1 :]


def reading(reward: OCR, num: int, rng: np.random.Generator) -> dict[str, object]:
    """Print and return which share of renders is read exactly, whole and changed, and what is misread."""
    splits = [SPLITS[i % 2] for i in range(num)]
    words = [sample_word(rng, split) for split in splits]
    images = [render(word, rng) for word in words]
    exact: dict[str, float] = {}
    for name, change in CHANGES.items():
        output = judged(reward, [change(image, rng) for image in images], words)
        exact[name] = output.components["exact"].double().mean().item()
        print(f"{name:28} read exactly {exact[name]:8.2%}, mean similarity {output.score.mean():.4f}", flush=True)
    output = judged(reward, images, words)
    right = output.components["exact"].numpy()
    groups: dict[str, list[bool]] = {split: [s == split for s in splits] for split in SPLITS}
    groups |= {category: [len(word) == int(category[0]) for word in words] for category in CATEGORIES}
    rows = {name: float(right[rows].mean()) for name, rows in groups.items()}
    wrong = [f"{word}: {said}" for word, said, good in zip(words, output.explanation, right, strict=True) if not good]
    print("ground truth, by group:", {name: f"{share:.2%}" for name, share in rows.items()}, "misread:", wrong)
    return {"read_exactly": exact, "ground_truth_by_group": rows, "misread": wrong}


def fooling(reward: OCR, num: int, rng: np.random.Generator) -> dict[str, object]:
    """Print and return what pictures earn that do not say the word, or not the word alone."""
    words = [sample_word(rng) for _ in range(num)]
    images = [render(word, rng) for word in words]
    others = [next(other for _ in words if (other := sample_word(rng)) != word) for word in words]
    wrong = {
        "one letter wrong": [render(misspelt(word, rng), rng) for word in words],
        "one letter missing": [render(word[:-1], rng) for word in words],
        "another word": [render(other, rng) for other in others],
        "the word twice": [np.concatenate([i, render(w, rng)]) for i, w in zip(images, words, strict=True)],
        "the word again, small": [beside(i, w) for i, w in zip(images, words, strict=True)],
        "another word beside, small": [beside(i, o) for i, o in zip(images, others, strict=True)],
        "no text": [np.broadcast_to(image[:1, :1], image.shape).copy() for image in images],
    }
    result: dict[str, object] = {}
    for name, pictures in wrong.items():
        output = judged(reward, pictures, words)
        exact, similarity = output.components["exact"].double().mean().item(), output.score.double().mean().item()
        result[name] = {"exact": exact, "similarity": similarity, "most": output.score.max().item()}
        print(
            f"{name:28} exact {exact:8.2%}, mean similarity {similarity:.4f}, most {output.score.max():.2f}", flush=True
        )
    return result


def main() -> None:
    """Print the tables, then the same numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=1000, help="ground-truth renders; a third as many of each fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    rng, reward = np.random.default_rng(options.seed), OCR()
    versions = {name: metadata.version(name) for name in ("rapidocr", "onnxruntime", "pillow", "matplotlib")}
    result: dict[str, object] = {"num": options.num, "seed": options.seed, "versions": versions}
    result |= reading(reward, options.num, rng)
    result["fooled"] = fooling(reward, max(1, options.num // 3), rng)
    times = []
    for _ in range(min(options.num, 200)):
        word = sample_word(rng)
        image = render(word, rng)
        start = time.process_time()
        judged(reward, [image], [word])
        times.append(1000 * (time.process_time() - start))
    result["cpu_milliseconds"] = {"median": float(np.median(times)), "mean": float(np.mean(times))}
    result["threads"] = torch.get_num_threads()
    print(f"CPU milliseconds an image: median {np.median(times):.2f}, mean {np.mean(times):.2f}")
    text = json.dumps(result, indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
