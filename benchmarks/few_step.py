"""Measure a student of few steps beside its teacher, and what was tuned by rewards, on the held-out prompts of scenes.

    limner distill scenes --out runs/distill-scenes
    python benchmarks/few_step.py runs/distill-scenes/pipeline [RUN ...] [--seeds 4] [--out docs/results/few_step.json]

Full-prompt accuracy with 95 % intervals (Student's t over prompts), and network evaluations a picture: the base as the
demo samples it, and with the guidance that is best for it; the student in 2, 4 and 8 steps of its own grid, and in 4
equal ones; the averaged weights of each RUN, sampled as it was trained.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import cast

from base import accuracy
from limner.build import assemble
from limner.diffusion.dynamics import CPS, EulerODE
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.report.file import write_text
from limner.run import open_run
from limner.worlds.scenes.grammar import prompts
from tuned import drawn


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/results/few_step.json"))
    options = parser.parse_args()
    folders = ("scenes", str(options.student))
    base, student = (assemble(override(recipe("scenes"), {"model.path": folder})) for folder in folders)
    cases = [
        ("base, 10 steps", base, base.config.sampler, 10),
        ("base, 20 steps, guidance 4", base, Sampler(EulerODE(), 20, guidance=4.0), 40),
        *((f"student, {steps} steps", student, Sampler(CPS(1.0), steps), steps) for steps in (2, 4, 8)),
        ("student, 4 steps, equal ones", student, Sampler(CPS(1.0), 4, "linear"), 4),
        ("base sampled as the student, 4 steps", base, Sampler(CPS(1.0), 4, "linear"), 4),
    ]
    found = {}
    for name, assembly, sampler, evaluations in cases:
        measured = accuracy(assembly, assembly.policy("reference", sampler), prompts("heldout"), options.seeds)
        found[name] = {"evaluations": evaluations, **measured}
        print(name, evaluations, measured["overall"], flush=True)
    for folder in options.runs:
        run = open_run(folder)
        with run.averaged():
            summary = drawn(run, run.assembly.policy("policy"), options.seeds).summary()
        measured = {part: asdict(interval) for part, interval in summary.items()}
        sampler = cast(Sampler, run.config.sampler)
        evaluations = sampler.steps * (1 if sampler.guidance == 1 else 2)
        found[str(folder)] = {"evaluations": evaluations, **measured}
        print(folder, evaluations, measured["overall"], flush=True)
    write_text(options.out, json.dumps({"seeds": options.seeds, "found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
