"""Measure finished runs of one configuration again, on held-out prompts with more seeds than their own reports.

    python benchmarks/tuned.py runs/scenes-0 [runs/scenes-1 ...] [--seeds 16] [--out docs/results/tuned.json]

Full-prompt accuracy of the base and of each run's averaged weights, by the runs' own sampler, paired by prompt and
noise. Intervals are 95 %, by Student's t over prompts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limner.build import drawer
from limner.core.errors import UserError
from limner.core.protocols import Policy
from limner.evaluate.protocol import OVERALL, Evaluation, compare, evaluate
from limner.judging.checked import Checked
from limner.report.file import write_text
from limner.run import Run, open_run
from limner.worlds.scenes.grammar import prompts
from limner.worlds.scenes.reward import scenes


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("docs/results/tuned.json"))
    options = parser.parse_args()
    text = json.dumps(measure([open_run(folder) for folder in options.runs], options.seeds), indent=1)
    print(text)
    write_text(options.out, text + "\n")


def measure(runs: Sequence[Run], seeds: int) -> dict[str, Any]:
    """Return accuracy before and after, and the change, of runs that share their base and sampler."""
    first = runs[0]
    if any((run.config.model, run.config.sampler) != (first.config.model, first.config.sampler) for run in runs):
        raise UserError("the runs differ in model or sampler, so they have no common base: measure them one by one")
    before = drawn(first, first.assembly.policy("reference"), seeds)
    found: dict[str, Any] = {"seeds": seeds, "before": asdict(before.summary()[OVERALL]), "after": {}, "change": {}}
    for run in runs:
        with run.averaged():
            after = drawn(run, run.assembly.policy("policy"), seeds)
        found["after"][str(run.folder)] = asdict(after.summary()[OVERALL])
        found["change"][str(run.folder)] = asdict(compare(before, after)[OVERALL])
    return found


def drawn(run: Run, policy: Policy, seeds: int) -> Evaluation:
    """Return what a policy draws for the held-out prompts, judged by the checker."""
    draw = drawer(run.assembly.parts, policy)
    return evaluate(draw, prompts("heldout"), Checked("scenes", scenes), range(seeds), batch=run.config.micro_batch)


if __name__ == "__main__":
    main()
