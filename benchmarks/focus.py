"""Does ViPO's map point at the right place? Against the exact masks of the worlds, which know where their things are.

    python benchmarks/focus.py [--num 128] [--clips 24] [--out docs/results/focus.json]

Scenes are pictures of one to four shapes, clips of the motion world have one or two that move; the mask of a render is
what its shapes cover (of scenes: where the colour is not the ground's). Map and mask are compared on the 14 x 14
patches of EfficientNet-Lite0, frame by frame. Reported for each map: the area under the ROC curve, which is the
probability that a cell of a thing lies higher than a cell of the ground (1/2: chance); the share of samples where it
is below 1/2, whose map points at the ground; and the mean weight on things, of maps with mean 1.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from limner.objectives.focus import principal_map, smoothed, to_mean_one
from limner.rewards.vision.patches import EFFICIENTNET, patches
from limner.worlds.motion.grammar import sample_motion
from limner.worlds.motion.render import render as render_motion
from limner.worlds.scenes.grammar import Scene, prompts
from limner.worlds.scenes.render import render as render_scene

CELLS = 14
Maps = Callable[[Tensor, Tensor], Tensor]
"""Of features [batch, frames, rows, columns, channels] and pixels [batch, frames, 3, height, width]."""


def colours(pixels: Tensor) -> Tensor:
    """Return the mean colour of each cell."""
    small = interpolate(pixels.flatten(0, 1), (CELLS, CELLS), mode="bilinear", antialias=True, align_corners=False)
    return small.permute(0, 2, 3, 1).unflatten(0, pixels.shape[:2])


def change(pixels: Tensor) -> Tensor:
    """Return how much each cell changes to the next frame."""
    moved = pixels.diff(dim=1).abs().mean(2)
    moved = torch.cat([moved, moved[:, -1:]], 1)
    return adaptive_avg_pool2d(moved, CELLS)


MAPS: Mapping[str, Maps] = {
    "ViPO, the solver's sign": lambda features, pixels: principal_map(features, 3, "solver"),
    "ViPO, the border's sign": lambda features, pixels: principal_map(features, 3, "border"),
    "one component, the border's sign": lambda features, pixels: principal_map(features, 1, "border"),
    "distance from the mean patch": lambda features, pixels: (
        (features - features.mean((1, 2, 3), keepdim=True)).square().sum(-1).sqrt()
    ),
    "ViPO on mean colours, the border's sign": lambda features, pixels: principal_map(colours(pixels), 3, "border"),
    "change between frames": lambda features, pixels: change(pixels),
}


def scenes(num: int) -> tuple[Tensor, Tensor]:
    """Return pictures [num, 1, 3, height, width], and their masks [num, 1, height, width]."""
    rng = np.random.default_rng(0)
    asked = prompts("train")
    chosen = [asked[int(i)] for i in rng.choice(len(asked), num)]
    drawn = np.stack([render_scene(Scene.from_dict(prompt.meta["scene"]), rng) for prompt in chosen])
    pixels = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
    saturation = 1 - pixels.amin(1) / pixels.amax(1)
    return pixels[:, None], (saturation > 0.3).float()[:, None]


def clips(num: int) -> tuple[Tensor, Tensor]:
    """Return clips [num, frames, 3, height, width], and their masks [num, frames, height, width]."""
    rng = np.random.default_rng(0)
    drawn = [render_motion(sample_motion(rng, "train"), rng) for _ in range(num)]
    pixels = torch.stack([torch.from_numpy(clip.frames) for clip in drawn]).permute(0, 1, 4, 2, 3).float() / 255
    return pixels, torch.stack([torch.from_numpy(clip.masks.sum(1)) for clip in drawn]).float()


def auc(found: Tensor, mask: Tensor) -> float:
    """Return the probability that a cell of the mask lies higher than another; equal ones count half."""
    inside, outside = found[mask], found[~mask]
    higher = (inside[:, None] > outside).double() + 0.5 * (inside[:, None] == outside)
    return float(higher.mean())


def measured(pixels: Tensor, masks: Tensor) -> dict[str, dict[str, float]]:
    """Return the figures of every map on samples of one world."""
    with torch.no_grad():
        features = torch.cat([patches(EFFICIENTNET, part.flatten(0, 1)) for part in pixels.split(8)])
    features = features.unflatten(0, pixels.shape[:2])
    cells = adaptive_avg_pool2d(masks, CELLS) >= 0.5
    table = {}
    for name, made in MAPS.items():
        if name == "change between frames" and pixels.shape[1] == 1:
            continue
        found = smoothed(made(features, pixels), 1.0)
        areas = [auc(each, mask) for each, mask in zip(found, cells, strict=True) if mask.any() and not mask.all()]
        weight = [float(each[mask].mean()) for each, mask in zip(to_mean_one(found), cells, strict=True) if mask.any()]
        table[name] = {
            "auc": round(float(np.mean(areas)), 3),
            "points at the ground": round(float(np.mean([area < 0.5 for area in areas])), 3),
            "weight on things": round(float(np.mean(weight)), 2),
        }
    return table


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=128, help="pictures")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, object] = {"pictures": options.num, "clips": options.clips}
    found["scenes"] = measured(*scenes(options.num))
    print(json.dumps(found, indent=1), flush=True)
    found["motion"] = measured(*clips(options.clips))
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
