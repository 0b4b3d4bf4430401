"""Measure the scenes base model, before any reinforcement learning.

    python benchmarks/base.py [--model.path FOLDER] [--seeds 16] [--out docs/results/base.json]

Full-prompt accuracy on 112 train and 112 held-out prompts, balanced over the categories, x seeds: with the sampler that
`limner train scenes` uses, with the plain 20-step ODE, with guidance (scales scanned on train prompts, the best one
reported on held-out prompts), best of 8 samples; the checker on the autoencoder's reconstructions of renders; and at
which times the caption decides what is drawn. Intervals are 95 % bootstraps over prompts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.build import Assembly, assemble
from limner.cli import take_keys
from limner.core.rng import Rng
from limner.core.types import Images, Prompt
from limner.diffusion.dynamics import EulerODE
from limner.evaluate.protocol import evaluate
from limner.evaluate.statistics import bootstrap
from limner.policies.denoising import Denoising
from limner.recipes.override import override
from limner.registry import recipe
from limner.report.file import write_text
from limner.run import drawer
from limner.worlds.scenes.grammar import Scene, prompts, sample_scene, to_prompt
from limner.worlds.scenes.render import render
from limner.worlds.scenes.reward import scenes

SCALES = (1.5, 2.0, 3.0, 4.0, 6.0)
TIMES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("docs/results/base.json"))
    own = frozenset({"--seeds", "--out", "--help"})
    rest, values = take_keys(sys.argv[1:], own)
    options = parser.parse_args(rest)
    assembly = assemble(override(recipe("scenes"), values))
    splits = {"train": prompts("train", 28), "heldout": prompts("heldout")}
    ode = assembly.policy("reference", EulerODE(), 20)
    found: dict[str, Any] = {"seeds": options.seeds, "prompts": {name: len(p) for name, p in splits.items()}}
    for split, asked in splits.items():
        found[split] = {
            "rl sampler": accuracy(assembly, assembly.sampler("reference"), asked, options.seeds),
            "ode 20": accuracy(assembly, ode, asked, options.seeds),
        }
    scan = {
        scale: accuracy(assembly, assembly.policy("reference", EulerODE(), 20, scale), splits["train"], 1)["overall"][
            "value"
        ]
        for scale in SCALES
    }
    best = max(scan, key=lambda scale: scan[scale])
    guided = assembly.policy("reference", EulerODE(), 20, best)
    found["guidance"] = {
        "train scan": scan,
        "best scale": best,
        "heldout": accuracy(assembly, guided, splits["heldout"], options.seeds),
    }
    found["best of 8, heldout"] = best_of(assembly, ode, splits["heldout"], 8)
    found["reconstructions accepted"] = reconstructions(assembly, 1000)
    found["caption gap by time"] = caption_gap(assembly, 384)
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out, text + "\n")


def accuracy(assembly: Assembly, policy: Denoising, asked: Sequence[Prompt], seeds: int) -> dict[str, Any]:
    """Return accuracy with its interval, overall and by category."""
    draw: Callable[[Sequence[Prompt], Sequence[int]], Images] = drawer(assembly.parts, policy)
    result = evaluate(draw, asked, scenes, range(seeds), batch=assembly.config.micro_batch)
    return {name: asdict(interval) for name, interval in result.summary().items()}


def best_of(assembly: Assembly, policy: Denoising, asked: Sequence[Prompt], count: int) -> dict[str, float]:
    """Return how often at least one of `count` samples satisfies its prompt."""
    result = evaluate(drawer(assembly.parts, policy), asked, scenes, range(count), batch=assembly.config.micro_batch)
    return asdict(bootstrap(result.reward.amax(1, keepdim=True)))


def caption_gap(assembly: Assembly, count: int) -> dict[float, float]:
    """Return at times t how much larger the velocity's squared error is without the caption: where it decides."""
    model = assembly.model
    rng = np.random.default_rng(Rng(("caption gap",)).seed())
    drawn = [sample_scene(rng) for _ in range(count)]
    vae = vars(model)["pipeline"].vae
    with torch.no_grad():
        mean = vae.encode(signed(drawn, rng)).latent_dist.mean
        x0 = (mean - vae.config.shift_factor) * vae.config.scaling_factor
        condition = model.encode([to_prompt(scene) for scene in drawn])
        rows, empty = torch.arange(count), torch.full((count,), count)
        gaps = {}
        for t in TIMES:
            noise = torch.randn(x0.shape, generator=Rng(("caption gap", str(t))).generator())
            x_t, target, times = torch.lerp(x0, noise, t), noise - x0, torch.full((count,), t)
            with_caption, without = (
                (model.predict(x_t, times, condition, index) - target).square().mean().item() for index in (rows, empty)
            )
            gaps[t] = round(without - with_caption, 4)
    return gaps


def signed(drawn: Sequence[Scene], rng: np.random.Generator) -> Tensor:
    """Return renders as the autoencoder takes them, in [-1, 1]."""
    return torch.from_numpy(np.stack([render(scene, rng) for scene in drawn])).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstructions(assembly: Assembly, count: int) -> float:
    """Return the share of renders that the checker accepts after the autoencoder."""
    vae = vars(assembly.model)["pipeline"].vae
    rng = np.random.default_rng(Rng(("reconstructions",)).seed())
    drawn = [sample_scene(rng) for _ in range(count)]
    pixels = signed(drawn, rng)
    with torch.no_grad():
        decoded = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in pixels.split(100)])
    images = Images((decoded / 2 + 0.5).clamp(0, 1)).rounded()
    return scenes(images, [to_prompt(scene) for scene in drawn]).score.mean().item()


if __name__ == "__main__":
    main()
