"""Measure finished runs of the scenes recipe again, on held-out prompts with more seeds than their own reports.

    python benchmarks/tuned.py runs/scenes-0 [runs/scenes-1 ...] [--seeds 16] [--out docs/results/tuned.json]

Full-prompt accuracy of the base and of each run's averaged weights, by the run's own sampler, paired by prompt and
noise. Intervals are 95 % bootstraps over prompts.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limner.evaluate.protocol import OVERALL, Evaluation, compare, evaluate
from limner.policies.denoising import Denoising
from limner.report.file import write_text
from limner.run import Run, drawer, open_run
from limner.worlds.scenes.grammar import prompts
from limner.worlds.scenes.reward import scenes


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("docs/results/tuned.json"))
    options = parser.parse_args()
    found: dict[str, Any] = {"seeds": options.seeds}
    for folder in options.runs:
        run = open_run(folder)
        before = measured(run, run.assembly.sampler("reference"), options.seeds)
        with run.assembly.parts.ema.swapped() if run.assembly.parts.ema is not None else nullcontext():
            after = measured(run, run.assembly.sampler("policy"), options.seeds)
        found[folder.name] = {
            "before": asdict(before.summary()[OVERALL]),
            "after": asdict(after.summary()[OVERALL]),
            "change": asdict(compare(before, after)[OVERALL]),
        }
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out, text + "\n")


def measured(run: Run, policy: Denoising, seeds: int) -> Evaluation:
    """Return what a policy draws for the held-out prompts, judged by the checker."""
    draw = drawer(run.assembly.parts, policy)
    return evaluate(draw, prompts("heldout"), scenes, range(seeds), batch=run.config.micro_batch)


if __name__ == "__main__":
    main()
