"""Train against a reward that was learned from votes, and watch what the exact checker says meanwhile.

    python benchmarks/reward_model.py votes       # then the KEYS of that file's head: limner reward train ...
    python benchmarks/overoptimisation.py train                 # recipe scenes against learned(...)
    python benchmarks/overoptimisation.py train --pessimistic 3 # against pessimistic(learned(...), k=3)
    python benchmarks/overoptimisation.py draw                  # docs/results/overoptimisation.json and .png

Of each iteration the log has the learned reward and the checker's on the training samples; every `EVERY` iterations
the checker is asked about one sample of each held-out prompt, and before and after about four.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import limner
from limner.bench.plotting import pyplot
from limner.report.file import read_object, write_text
from limner.report.metrics import read
from limner.training.config import Evaluation

PLACE = Path("runs/overoptimisation")
EVERY = 12


def main() -> None:
    """Train, or draw what the runs say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("train", "draw"))
    parser.add_argument("--reward", default="runs/reward-model/taste", help="the folder of a learned reward")
    parser.add_argument("--pessimistic", type=float, default=0.0, metavar="K")
    parser.add_argument("--steps", type=int, default=108)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    if options.task == "train":
        train(options.reward, options.pessimistic, options.steps)
    else:
        draw(options.out)


def train(reward: str, k: float, steps: int) -> None:
    """Train by the recipe scenes against what was learned, at a constant learning rate; the checker counts for 0."""
    judge = f"learned(folder='{reward}')"
    aim = f"pessimistic({judge}, k={k:g})" if k else judge
    base = limner.recipe("scenes")
    config = replace(
        base,
        name="overoptimisation",
        reward=f"{aim} + 0 * scenes",
        optimizer=replace(base.optimizer, schedule="constant"),
        evaluation=Evaluation(prompts="scenes:heldout", reward="scenes", seeds=4, every=EVERY, part=1000),
        steps=steps,
        out=str(PLACE / f"k{k:g}"),
    )
    limner.train(config, resume=(PLACE / f"k{k:g}" / "checkpoints").exists())


def draw(out: Path) -> None:
    """Write what all runs say, and a picture of it."""
    runs = [told(folder) for folder in sorted(PLACE.glob("k*")) if (folder / "summary.json").exists()]
    write_text(out / "overoptimisation.json", json.dumps(runs, indent=1) + "\n")
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for run, colour in zip(runs, ("tab:blue", "tab:orange", "tab:green"), strict=False):
        name = f"pessimistic, k = {run['k']:g}" if run["k"] else "learned reward"
        steps, checked = zip(*run["heldout"], strict=True)
        axes[0].plot(range(EVERY, EVERY * len(run["learned"]) + 1, EVERY), run["learned"], color=colour, label=name)
        axes[1].plot(steps, [100 * each for each in checked], color=colour, marker="o", markersize=3, label=name)
    for axis, title in zip(
        axes, ("learned reward of training samples, nats", "exact checker, held-out, %"), strict=True
    ):
        axis.set(title=title, xlabel="iteration")
        axis.legend()
    figure.savefig(out / "overoptimisation.png", dpi=110)
    print(json.dumps(runs, indent=1))


def told(folder: Path) -> dict[str, Any]:
    """Return the curves of a run, a point every `EVERY` iterations, and what was gained."""
    lines = read(folder)
    learned = next(key for key in lines[0] if key.startswith("reward/learned(") and key.endswith(")"))
    parts = [lines[i : i + EVERY] for i in range(0, len(lines), EVERY)]
    summary = read_object(folder / "summary.json") or {}
    points = [(line["step"] + 1, line["heldout/overall"]) for line in lines if "heldout/overall" in line]
    before = summary["heldout"]["before"]["value"]
    return {
        "k": float(folder.name[1:]),
        "learned": [round(mean(part, learned), 4) for part in parts],
        "uncertainty": [round(mean(part, f"{learned}/uncertainty"), 4) for part in parts],
        "checker_on_training_samples": [round(mean(part, "reward/scenes"), 4) for part in parts],
        "heldout": [(step, round(value, 4)) for step, value in [(0, before), *points]],
        "gained": summary["heldout"],
        "diversity": summary["diversity"],
        "processor_seconds": summary["processor_seconds"],
    }


def mean(lines: Sequence[Mapping[str, Any]], key: str) -> float:
    """Return the mean of a column over some iterations."""
    return sum(line[key] for line in lines) / len(lines)


if __name__ == "__main__":
    main()
