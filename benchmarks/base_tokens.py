"""Measure the scenes bases of tokens, in order or masked, and of one step, before any reinforcement learning.

    python benchmarks/base_tokens.py [--model.path FOLDER] [--seeds 4] [--out docs/results/base_tokens.json]
    python benchmarks/base_tokens.py --model.path MASKED --sampler MaskedSampler --sampler.guidance 2 --out FILE.json
    python benchmarks/base_tokens.py --model.path GAN --sampler OneStepSampler --sampler.noise 0.3 --out FILE.json

Full-prompt accuracy on 112 train and 112 held-out prompts, balanced over the categories, x seeds: with the sampler that
`limner train scenes_tokens` uses, or the one named, and with others of its kind; and the checker on reconstructions of
1,000 renders by the tokenizer, or the autoencoder. Intervals are 95 %, by Student's t over prompts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from base import accuracy, reconstructions
from limner.build import assemble
from limner.commands.parser import take_keys
from limner.core.protocols import Sampling
from limner.policies.masked import MaskedSampler
from limner.policies.one_step import OneStepSampler
from limner.policies.tokens import TokenSampler
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.report.file import write_text
from limner.worlds.scenes.grammar import prompts

IN_ORDER = {
    "all that it learned": TokenSampler(),
    "top-p 0.9": TokenSampler(top_p=0.9),
    "guidance 2": TokenSampler(guidance=2.0),
    "guidance 2, top-p 0.9": TokenSampler(guidance=2.0, top_p=0.9),
    "guidance 3, top-p 0.9": TokenSampler(guidance=3.0, top_p=0.9),
    "guidance 3, top-p 0.5": TokenSampler(guidance=3.0, top_p=0.5),
}
MASKED = {
    "all that it learned": MaskedSampler(steps=16),
    "guidance 2": MaskedSampler(steps=16, guidance=2.0),
    "guidance 3": MaskedSampler(steps=16, guidance=3.0),
    "guidance 3, 8 steps": MaskedSampler(steps=8, guidance=3.0),
    "guidance 3, temperature 0.7": MaskedSampler(steps=16, guidance=3.0, temperature=0.7),
    "guidance 3, Plackett-Luce": MaskedSampler("plackett_luce", steps=16, guidance=3.0, order_temperature=0.3),
    "guidance 3, confidence": MaskedSampler("confidence", steps=16, guidance=3.0, order_temperature=2.0),
}
ONE_STEP = {f"noise {noise}": OneStepSampler(noise=noise) for noise in (0.0, 0.1)}
SAMPLERS: dict[str, Mapping[str, Sampling]] = {
    "TokenSampler": IN_ORDER,
    "MaskedSampler": MASKED,
    "OneStepSampler": ONE_STEP,
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/results/base_tokens.json"))
    rest, values = take_keys(sys.argv[1:], frozenset({"--seeds", "--out", "--help"}))
    options = parser.parse_args(rest)
    assembly = assemble(override(recipe("scenes_tokens"), values))
    others = SAMPLERS[type(assembly.config.sampler).__name__]
    splits = {"train": prompts("train", 28), "heldout": prompts("heldout")}
    found: dict[str, Any] = {"seeds": options.seeds, "prompts": {name: len(p) for name, p in splits.items()}}
    for split, asked in splits.items():
        found[split] = {"rl sampler": accuracy(assembly, assembly.policy("reference"), asked, options.seeds)}
        for name, sampler in others.items():
            found[split][name] = accuracy(assembly, assembly.policy("reference", sampler), asked, 1)
    found["reconstructions accepted"] = reconstructions(assembly, 1000)
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out, text + "\n")


if __name__ == "__main__":
    main()
