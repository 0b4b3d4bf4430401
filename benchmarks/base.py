"""Measure the scenes base model, before any reinforcement learning.

    python benchmarks/base.py [--model.path FOLDER] [--seeds 16] [--out docs/results/base.json]

Full-prompt accuracy on 112 train and 112 held-out prompts, balanced over the categories, x seeds: with the sampler that
`limner train scenes` uses, with the plain 20-step ODE, with guidance (scales scanned on train prompts, the best one
reported on held-out prompts), best of 8 samples; the checker on the autoencoder's reconstructions of renders; and at
which times the caption decides what is drawn. Intervals are 95 %, by Student's t over prompts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.build import Assembly, assemble, drawer
from limner.commands.parser import take_keys
from limner.core.media import Images
from limner.core.protocols import Adapter, Policy
from limner.core.rng import Rng
from limner.core.types import Condition, Prompt
from limner.diffusion.dynamics import EulerODE
from limner.diffusion.prediction import to_estimate
from limner.evaluate.protocol import evaluate
from limner.evaluate.statistics import mean_interval
from limner.judging.checked import Checked
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.report.file import write_text
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
    ode = assembly.policy("reference", Sampler(EulerODE(), 20))
    found: dict[str, Any] = {"seeds": options.seeds, "prompts": {name: len(p) for name, p in splits.items()}}
    for split, asked in splits.items():
        found[split] = {
            "rl sampler": accuracy(assembly, assembly.policy("reference"), asked, options.seeds),
            "ode 20": accuracy(assembly, ode, asked, options.seeds),
        }
    scan = {}
    for scale in SCALES:
        guided = assembly.policy("reference", Sampler(EulerODE(), 20, guidance=scale))
        scan[scale] = accuracy(assembly, guided, splits["train"], 1)["overall"]["value"]
    best = max(scan, key=lambda scale: scan[scale])
    guided = assembly.policy("reference", Sampler(EulerODE(), 20, guidance=best))
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


def accuracy(assembly: Assembly, policy: Policy, asked: Sequence[Prompt], seeds: int) -> dict[str, Any]:
    """Return accuracy with its interval, overall and by category."""
    draw = drawer(assembly.parts, policy)
    result = evaluate(draw, asked, assembly.judge, range(seeds), batch=assembly.config.micro_batch)
    return {name: asdict(interval) for name, interval in result.summary().items()}


def best_of(assembly: Assembly, policy: Policy, asked: Sequence[Prompt], count: int) -> dict[str, float]:
    """Return how often at least one of `count` samples satisfies its prompt."""
    draw = drawer(assembly.parts, policy)
    result = evaluate(draw, asked, assembly.judge, range(count), batch=assembly.config.micro_batch)
    return asdict(mean_interval(result.reward.amax(1, keepdim=True), within=(0.0, 1.0)))


def caption_gap(assembly: Assembly, count: int) -> dict[float, float]:
    """Return at times t how much larger the velocity's squared error is without the caption: where it decides."""
    model = assembly.model
    rng = np.random.default_rng(Rng(("caption gap",)).seed())
    drawn = [sample_scene(rng) for _ in range(count)]
    rows, empty = torch.arange(count), torch.full((count,), count)
    gaps = {}
    with torch.no_grad():
        x0 = model.encode_media(renders(drawn, rng))
        condition = model.encode([to_prompt(scene) for scene in drawn])
        for t in TIMES:
            noise = torch.randn(x0.shape, generator=Rng(("caption gap", str(t))).generator())
            with_caption, without = (velocity_error(model, x0, noise, t, condition, index) for index in (rows, empty))
            gaps[t] = round(without - with_caption, 4)
    return gaps


def velocity_error(model: Adapter, x0: Tensor, noise: Tensor, t: float, condition: Condition, index: Tensor) -> float:
    """Return the mean squared error of noise - x0 as the network sees it in the noised latents."""
    times = torch.full((len(x0),), t)
    alpha, sigma = (weight(times)[:, None, None, None] for weight in (model.schedule.alpha, model.schedule.sigma))
    x_t = alpha * x0 + sigma * noise
    predicted = model.predict(x_t, times, condition, index)
    found = to_estimate(model.prediction, predicted, x_t, times, model.schedule)
    return (found.velocity - (noise - x0)).square().mean().item()


def reconstructions(assembly: Assembly, count: int) -> float:
    """Return the share of renders that the checker accepts after the autoencoder."""
    rng = np.random.default_rng(Rng(("reconstructions",)).seed())
    drawn = [sample_scene(rng) for _ in range(count)]
    pictures = renders(drawn, rng)
    judged = Checked("scenes", scenes)(restored(assembly, pictures), [to_prompt(scene) for scene in drawn])
    return judged.score.mean().item()


def restored(assembly: Assembly, pictures: Images) -> Images:
    """Return pictures as they come out of the autoencoder, in steps of 1/255."""
    with torch.no_grad():
        parts = [
            assembly.model.decode(assembly.model.encode_media(Images(some))) for some in pictures.pixels.split(100)
        ]
    return Images(torch.cat([part.frames()[:, 0] for part in parts])).rounded()


def renders(drawn: Sequence[Scene], rng: np.random.Generator) -> Images:
    """Return pictures of scenes."""
    return Images(torch.from_numpy(np.stack([render(scene, rng) for scene in drawn])).permute(0, 3, 1, 2) / 255)


if __name__ == "__main__":
    main()
