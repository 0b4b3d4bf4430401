"""Measure the scenes base of tokens, before any reinforcement learning.

    python benchmarks/base_tokens.py [--model.path FOLDER] [--seeds 4] [--out docs/results/base_tokens.json]

Full-prompt accuracy on 112 train and 112 held-out prompts, balanced over the categories, x seeds: with the sampler that
`limner train scenes_tokens` uses, with other guidance and top-p, and the checker on the tokenizer's reconstructions of
1,000 renders. Intervals are 95 %, by Student's t over prompts.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from base import accuracy, reconstructions
from limner.build import assemble
from limner.commands.parser import take_keys
from limner.policies.tokens import TokenSampler
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.report.file import write_text
from limner.worlds.scenes.grammar import prompts

SAMPLERS = {
    "all that it learned": TokenSampler(),
    "top-p 0.9": TokenSampler(top_p=0.9),
    "guidance 2": TokenSampler(guidance=2.0),
    "guidance 2, top-p 0.9": TokenSampler(guidance=2.0, top_p=0.9),
    "guidance 3, top-p 0.9": TokenSampler(guidance=3.0, top_p=0.9),
    "guidance 3, top-p 0.5": TokenSampler(guidance=3.0, top_p=0.5),
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/results/base_tokens.json"))
    rest, values = take_keys(sys.argv[1:], frozenset({"--seeds", "--out", "--help"}))
    options = parser.parse_args(rest)
    assembly = assemble(override(recipe("scenes_tokens"), values))
    splits = {"train": prompts("train", 28), "heldout": prompts("heldout")}
    found: dict[str, Any] = {"seeds": options.seeds, "prompts": {name: len(p) for name, p in splits.items()}}
    for split, asked in splits.items():
        found[split] = {"rl sampler": accuracy(assembly, assembly.policy("reference"), asked, options.seeds)}
        for name, sampler in SAMPLERS.items():
            found[split][name] = accuracy(assembly, assembly.policy("reference", sampler), asked, 1)
    found["reconstructions accepted"] = reconstructions(assembly, 1000)
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out, text + "\n")


if __name__ == "__main__":
    main()
