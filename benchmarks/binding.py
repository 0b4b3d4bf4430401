"""Measure whether a base of tokens has learnt which word belongs to which: captions of equal words, told apart.

    python benchmarks/binding.py [--model.path FOLDER] [--scenes 400] [--out docs/results/binding.json]

For renders of two things, of train and of held-out combinations: how often the codes of the picture are likelier after
its own caption than after another one, and by how many nats. The other caption has the colours of the two exchanged, or
the two exchanged about their relation, which are the same words in another order, or the shape of one changed for that
of the other. Whoever reads captions as a set of words is right in 50 % of the first two. Intervals are 95 %, by
Student's t.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from limner.build import assemble
from limner.commands.parser import take_keys
from limner.core.media import Images
from limner.core.types import Prompt
from limner.evaluate.statistics import mean_interval
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.report.file import write_text
from limner.worlds.scenes.grammar import Scene, caption, exchanged, sample_scene
from limner.worlds.scenes.render import render


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("docs/results/binding.json"))
    rest, values = take_keys(sys.argv[1:], frozenset({"--scenes", "--out", "--help"}))
    options = parser.parse_args(rest)
    model = assemble(override(recipe("scenes_tokens"), values)).model
    found: dict[str, Any] = {}
    for split in ("train", "heldout"):
        rng = np.random.default_rng(0)
        scenes: list[Scene] = []
        while len(scenes) < options.scenes:
            scene = sample_scene(rng, split)
            if len(scene.items) == 2 and _differ(scene):
                scenes.append(scene)
        pictures = np.stack([render(scene, rng) for scene in scenes])
        codes = model.encode_media(Images(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255))
        found[split] = told_apart(model, scenes, codes)
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out, text + "\n")


def _differ(scene: Scene) -> bool:
    first, second = scene.items
    return first.colour != second.colour and first.shape != second.shape


def others(scene: Scene) -> Mapping[str, Scene]:
    """Return the scenes that captions are told apart from, by what was done."""
    first, second = scene.items
    *things, colours = exchanged(scene)
    found = {
        "colours exchanged": colours,
        "one shape for the other": replace(scene, items=(replace(first, shape=second.shape), second)),
    }
    return found | ({"things exchanged": things[0]} if things else {})


def told_apart(model: Any, scenes: list[Scene], codes: Tensor) -> dict[str, Any]:
    """Return for each change how often, and by how many nats, pictures are likelier after their own captions."""
    own = nats(model, scenes, codes)
    found = {}
    for change in ("colours exchanged", "things exchanged", "one shape for the other"):
        rows = [i for i, scene in enumerate(scenes) if change in others(scene)]
        gain = nats(model, [others(scenes[i])[change] for i in rows], codes[rows]) - own[rows]
        found[change] = {
            "right": asdict(mean_interval((gain[:, None] > 0).double())),
            "nats": asdict(mean_interval(gain[:, None])),
        }
    return found


@torch.no_grad()
def nats(model: Any, scenes: list[Scene], codes: Tensor) -> Tensor:
    """Return -log p of each picture's codes after the caption of a scene, in float64."""
    found = []
    for rows in torch.arange(len(scenes)).split(100):
        condition = model.encode([Prompt(caption(scenes[i])) for i in rows.tolist()])
        logits = model.logits(codes[rows], condition, torch.arange(len(rows)))
        found.append(functional.cross_entropy(logits.flatten(0, 1), codes[rows].flatten(), reduction="none"))
    return torch.cat(found).view(codes.shape).double().sum(1)


if __name__ == "__main__":
    main()
