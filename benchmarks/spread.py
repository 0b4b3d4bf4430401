"""docs/spread.md: what the recipes' runs gained, one by one, over seeds and instruction sets.

    python benchmarks/spread.py [--check]

It is made of docs/results/spread, which `benchmarks/gather.py` fills. `--check` writes nothing, and fails if the page
is not what would be written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from limner.evaluate.statistics import mean_interval
from limner.report.data import Interval
from page import ROOT, main

ABOUT = """# How far runs spread

Rounding is as good as a seed: one recipe, one seed and two kinds of processor end in two different models, each as good
a draw as the other. So a figure of one run says little, and a claim about a recipe is a claim about all of its runs.
Here they are, one by one: `limner train RECIPE --seed S`, on held-out prompts, before and after at equal seeds and
noise. Runs with AVX2 stand for processors without AVX-512 (`ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2` makes one
of the other). Gathered by `python benchmarks/gather.py runs/...`, written by `python benchmarks/spread.py`.

The interval of a run is over its prompts, that of the mean over runs (Student's t, 95 %). Diversity is that of the
pictures of one prompt, after over before. Processor seconds are those of training, without evaluation and report.
"""


def page() -> str:
    """Return the page: a section a recipe."""
    folder = ROOT / "docs" / "results" / "spread"
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    runs.sort(key=lambda run: (list(RECIPES).index(run["recipe"]), run["instructions"], run["seed"]))
    sections = [section(name, list(group)) for name, group in groupby(runs, key=lambda run: run["recipe"])]
    return "\n".join([ABOUT, *sections])


RECIPES = {
    "scenes": "full prompt satisfied, by the exact checker",
    "scenes_tokens": "full prompt satisfied, by the exact checker",
    "scenes_gan": "full prompt satisfied, by the exact checker",
    "words": "word read exactly, by an OCR engine",
    "emoji": "caption found first, by the second judge",
    "motion": "everything that is asked happens, by the exact checker of motion",
}
ENOUGH = 4
"""Runs of a recipe that are summed up; fewer say little together."""


def section(name: str, runs: Sequence[dict[str, Any]]) -> str:
    """Return a table of the runs of one recipe, and what all of them say together."""
    gains = torch.tensor([run["heldout"]["change"]["value"] for run in runs], dtype=torch.float64)
    kept = torch.tensor([diversity(run) for run in runs], dtype=torch.float64)
    together = f"{len(runs)} of the {ENOUGH} runs that it takes to say what they say together."
    if len(runs) >= ENOUGH:
        together = (
            f"{len(runs)} runs: mean gain {points(mean_interval(gains[:, None]))}, least {100 * gains.min():+.1f}, "
            f"most {100 * gains.max():+.1f}; mean diversity kept {100 * kept.mean():.0f} %, least "
            f"{100 * kept.min():.0f} %."
        )
    head = [
        f"## `limner train {name}`: {RECIPES[name]}",
        "",
        together,
        "",
        "| instructions | seed | before | after | change in points | diversity kept | seconds | threads | "
        "processor seconds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    return "\n".join([*head, *(row(run) for run in runs), ""])


def row(run: dict[str, Any]) -> str:
    """Return a line of the table."""
    heldout = run["heldout"]
    cells = [
        run["instructions"],
        run["seed"],
        f"{100 * heldout['before']['value']:.1f} %",
        f"{100 * heldout['after']['value']:.1f} %",
        points(Interval(**heldout["change"])),
        f"{100 * diversity(run):.0f} %",
        f"{run['seconds']['total']:.0f}",
        run["threads"],
        f"{run['processor_seconds']:.0f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def diversity(run: dict[str, Any]) -> float:
    """Return the diversity within a prompt, after over before."""
    return float(run["diversity"]["after"] / run["diversity"]["before"])


def points(interval: Interval) -> str:
    """Return a change in points, with its interval."""
    return f"{100 * interval.value:+.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


if __name__ == "__main__":
    sys.exit(main("spread.md", __doc__ or "", page))
