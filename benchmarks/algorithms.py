"""Compare algorithms on the scenes world at equal network evaluations, several seeds, with the curve.

    python benchmarks/algorithms.py [--budget 300000] [--seeds 3] [--out docs/results]

Each run is `limner train RECIPE` with as many iterations as the budget of network evaluations (rollout and update) pays
for. A run that is finished is not run again. Writes algorithms.csv (a row for each point of each curve), and
algorithms.png (mean and range over seeds).
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from limner.build import recipe
from limner.core.types import Needs
from limner.recipes.override import override
from limner.report.metrics import read
from limner.run import train
from limner.training.config import RunConfig

RECIPES = ("scenes", "scenes_grpo")


def main() -> None:
    """Run what is missing, then write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=int, default=300_000, help="network evaluations of a run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    rows: list[dict[str, float | str]] = []
    for name in RECIPES:
        for seed in range(options.seeds):
            rows += curve(name, seed, options.budget)
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "algorithms.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, options.out / "algorithms.png")


def curve(name: str, seed: int, budget: int) -> list[dict[str, float | str]]:
    """Return held-out accuracy over network evaluations of one run, which is done if it is not there."""
    config = recipe(name)
    steps = budget // evaluations(config)
    folder = Path("runs") / f"compare-{name}-{seed}"
    if not (folder / "summary.json").exists():
        values = {"steps": steps, "seed": seed, "out": str(folder), "evaluation.every": max(1, steps // 8)}
        train(override(config, values), resume=(folder / "config.yaml").exists(), quiet=True)
    return [
        {
            "recipe": name,
            "algorithm": type(config.algorithm).__name__,
            "seed": seed,
            "iteration": line["step"] + 1,
            "network_evaluations": line["network_evaluations"],
            "heldout": round(line["heldout/overall"], 4),
            "reward": round(line["reward/mean"], 4),
        }
        for line in read(folder)
        if "heldout/overall" in line
    ]


def evaluations(config: RunConfig) -> int:
    """Return the most network evaluations of one iteration: rollout, update, and what the update compares with."""
    samples, needs = config.prompts_per_step * config.group_size, config.algorithm.needs
    learned = config.sampler.window or config.sampler.steps - 1
    learned = learned if needs.path else vars(config.algorithm)["num_times"]
    return samples * (config.sampler.steps + learned * passes(needs))


def passes(needs: Needs) -> int:
    """Return the networks that look at each decision: the trained one, and those it is compared with."""
    return 1 + needs.old + needs.reference


def plot(rows: list[dict[str, float | str]], path: Path) -> None:
    """Draw mean and range over seeds."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for algorithm in dict.fromkeys(str(row["algorithm"]) for row in rows):
        points: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for row in rows:
            if row["algorithm"] == algorithm:
                points[int(row["iteration"])].append((float(row["network_evaluations"]), float(row["heldout"])))
        x = [sum(e for e, _ in group) / len(group) for group in points.values()]
        y = [[h for _, h in group] for group in points.values()]
        (line,) = axes.plot(x, [sum(h) / len(h) for h in y], marker="o", label=algorithm)
        axes.fill_between(x, [min(h) for h in y], [max(h) for h in y], alpha=0.2, color=line.get_color())
    axes.set(xlabel="network evaluations (rollout and update)", ylabel="held-out accuracy, part of the prompts")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
