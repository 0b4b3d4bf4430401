"""Measure the motion base model, before any reinforcement learning.

    python benchmarks/base_motion.py [--model.path FOLDER] [--seeds 4] [--out docs/results/base_motion.json]

Full-prompt accuracy on 112 train and 112 held-out prompts, balanced over the categories, x seeds: with the sampler that
`limner train motion` uses, with the plain 20-step ODE, with guidance (scales scanned on train prompts, the best one
reported on both); and the checker on the autoencoder's reconstructions of renders. Intervals are 95 %, by Student's t
over prompts.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from base import accuracy
from limner.build import Assembly, assemble
from limner.commands.parser import take_keys
from limner.core.media import Videos
from limner.core.protocols import Policy
from limner.core.rng import Rng
from limner.diffusion.dynamics import EulerODE
from limner.judging.checked import Checked
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.report.file import write_text
from limner.worlds.motion.grammar import prompts, sample_motion, to_prompt
from limner.worlds.motion.render import FPS, render
from limner.worlds.motion.reward import motion

SCALES = (1.5, 2.0, 3.0, 4.0)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/results/base_motion.json"))
    rest, values = take_keys(sys.argv[1:], frozenset({"--seeds", "--out", "--help"}))
    options = parser.parse_args(rest)
    assembly = assemble(override(recipe("motion"), values))
    splits = {"train": prompts("train", 14), "heldout": prompts("heldout", 14)}
    found: dict[str, Any] = {"seeds": options.seeds, "prompts": {name: len(p) for name, p in splits.items()}}
    found["reconstructions accepted"] = reconstructions(assembly, 1000)
    samplers = {"rl sampler": assembly.config.sampler, "ode 20": Sampler(EulerODE(), 20)}
    scan = {
        scale: accuracy(assembly, guided(assembly, scale), splits["train"], 1)["overall"]["value"] for scale in SCALES
    }
    best = max(scan, key=lambda scale: scan[scale])
    found["guidance"] = {"train scan": scan, "best scale": best}
    for split, asked in splits.items():
        policies = {name: assembly.policy("reference", sampler) for name, sampler in samplers.items()}
        policies["guided"] = guided(assembly, best)
        found[split] = {name: accuracy(assembly, each, asked, options.seeds) for name, each in policies.items()}
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out, text + "\n")


def guided(assembly: Assembly, scale: float) -> Policy:
    """Return the base, sampled by 20 steps of the ODE with guidance."""
    return assembly.policy("reference", Sampler(EulerODE(), 20, guidance=scale))


def reconstructions(assembly: Assembly, count: int) -> dict[str, float]:
    """Return the share of renders that the checker accepts after the autoencoder, overall and by category."""
    rng = np.random.default_rng(Rng(("reconstructions",)).seed())
    drawn = [sample_motion(rng) for _ in range(count)]
    judge, accepted = Checked("motion", motion), []
    for start in range(0, count, 50):
        some = drawn[start : start + 50]
        frames = np.stack([render(each, rng).frames for each in some])
        clips = Videos(torch.from_numpy(frames).movedim(-1, 2) / 255, FPS)
        with torch.no_grad():
            restored = assembly.model.decode(assembly.model.encode_media(clips)).rounded()
        accepted.append(judge(restored, [to_prompt(each) for each in some]).score)
    score, kinds = torch.cat(accepted), [each.category for each in drawn]
    by_kind = {kind: score[[k == kind for k in kinds]].mean().item() for kind in sorted(set(kinds))}
    return {"overall": score.mean().item(), **by_kind}


if __name__ == "__main__":
    main()
