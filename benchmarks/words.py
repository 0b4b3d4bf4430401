"""Measure the words base model, before any reinforcement learning.

    python benchmarks/words.py [--model.path FOLDER] [--seeds 4] [--out docs/results/words.json]

Exact-word accuracy, as the OCR engine reads it, on as many train words as there are held-out ones, and on all held-out
words: with the sampler that `limner train words` uses, with the plain 20-step ODE, and guided; and how often the engine
reads the word of a picture that went through the autoencoder. Intervals are 95 %, by Student's t over prompts.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from base import accuracy, best_of, restored
from limner.build import Assembly, assemble
from limner.commands.parser import take_keys
from limner.core.media import Images
from limner.core.rng import Rng
from limner.diffusion.dynamics import EulerODE
from limner.evaluate.statistics import mean_interval
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.report.file import write_text
from limner.worlds.words.grammar import Split, prompts, sample_word, to_prompt
from limner.worlds.words.render import render


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/results/words.json"))
    rest, values = take_keys(sys.argv[1:], frozenset({"--seeds", "--out", "--help"}))
    options = parser.parse_args(rest)
    assembly = assemble(override(recipe("words"), values))
    heldout = prompts("heldout")
    splits = {"train": prompts("train", len(heldout)), "heldout": heldout}
    ode, scale = assembly.policy("reference", Sampler(EulerODE(), 20)), assembly.config.evaluation.guidance
    guided = assembly.policy("reference", Sampler(EulerODE(), 20, guidance=scale))
    found: dict[str, Any] = {"seeds": options.seeds, "prompts": {name: len(p) for name, p in splits.items()}}
    for split, asked in splits.items():
        found[split] = {
            "rl sampler": accuracy(assembly, assembly.policy("reference"), asked, options.seeds),
            "ode 20": accuracy(assembly, ode, asked, options.seeds),
            f"guided {scale:g}": accuracy(assembly, guided, asked, options.seeds),
        }
        print(split, json.dumps({name: rows["overall"] for name, rows in found[split].items()}), flush=True)
    found["best of 8, heldout"] = best_of(assembly, ode, heldout, 8)
    found["reconstructions read"] = {split: reconstructions(assembly, 500, split) for split in ("train", "heldout")}
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out, text + "\n")


def reconstructions(assembly: Assembly, count: int, split: Split) -> dict[str, float]:
    """Return how often the word is read exactly from renders after the autoencoder."""
    rng = np.random.default_rng(Rng(("reconstructions", split)).seed())
    words = [sample_word(rng, split) for _ in range(count)]
    pictures = Images(torch.from_numpy(np.stack([render(word, rng) for word in words])).permute(0, 3, 1, 2) / 255)
    judged = assembly.judge(restored(assembly, pictures), [to_prompt(word) for word in words])
    return asdict(mean_interval(judged.score[:, None], within=(0.0, 1.0)))


if __name__ == "__main__":
    main()
