"""`limner bench scenes`: every algorithm teaches the same base at the same number of network evaluations.

A row is one run of a recipe with an entry's keys, in a process of its own, with as many iterations as the budget of
network evaluations (rollout and update) pays for. Each kind of generator has a recipe, entries and a table
(`limner.bench.entries`); one budget buys all kinds as many operations (`limner.bench.budget`). Rows are kept in
FOLDER/scenes.csv, FOLDER/scenes_tokens.csv and so on, and never run again; runs lie in
runs/bench-scenes-BUDGET-ENTRY-SEED, runs/bench-scenes_tokens-..., and go on where they stopped.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from limner.bench.budget import evaluations
from limner.bench.entries import KINDS, STUDENT, Kind
from limner.bench.plotting import pyplot
from limner.build import load_prompts
from limner.core.errors import RunError, UserError, nearest
from limner.core.needs import Renoising
from limner.core.paths import text_of
from limner.core.protocols import ForwardProcess
from limner.core.rng import Rng
from limner.core.types import Rollout
from limner.objectives.matching import velocity_mse
from limner.pairs import make
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.recipes.yaml import to_yaml
from limner.report.file import write_text
from limner.report.metrics import read
from limner.run import open_run
from limner.training.config import RunConfig

DRAWN, PAIRS = 3400, Path("runs/bench-scenes-pairs")
"""How many pairs of the base's samples are drawn for the entries that are given pairs; 1,975 are told apart."""
COLUMNS = (
    "budget", "entry", "algorithm", "seed", "iterations", "network_evaluations", "train", "before", "after", "change",
    "low", "high", "diversity_before", "diversity_after", "drift", "processor_seconds", "peak_memory_mib", "curve",
)  # fmt: skip
Row = dict[str, str]


def bench(folder: Path, seeds: int | None, budget: int, names: Sequence[str] = (), kind: str = "denoisers") -> str:
    """Run what the kind's table lacks; write it, the curves and the plot; return the table as Markdown.

    Without `seeds` it is three of the kind's closer entries and one of the others; without `names`, all entries.
    """
    of = KINDS[kind]
    for name in names:
        if name not in of.entries:
            raise UserError(f"unknown entry {name!r} of {kind}{nearest(name, of.entries)}")
    plt = pyplot()
    table = folder / f"{of.name}.csv"
    rows = read_rows(table)
    for name in names or of.entries:
        for seed in range(seeds or (3 if name in of.closer else 1)):
            if not any((row["budget"], row["entry"], row["seed"]) == (str(budget), name, str(seed)) for row in rows):
                rows.append(row_of(of, name, seed, budget, run(of, name, seed, budget)))
                write_rows(table, rows)
                print(f"{name}, seed {seed}: {rows[-1]['before']} to {rows[-1]['after']}", flush=True)
    text = markdown(rows)
    write_text(table.with_suffix(".md"), text)
    plot(plt, rows, table.with_suffix(".png"))
    return text


def configuration(of: Kind, name: str, seed: int, budget: int) -> RunConfig:
    """Return the run of an entry: the kind's recipe with its keys, as long as the budget lasts."""
    config = override(recipe(of.recipe), {**of.keys, **of.entries[name]})
    steps = max(1, budget // evaluations(config))
    given = {} if config.source.draws else {"source.data": str(PAIRS)}
    values = given | {
        "seed": seed,
        "steps": steps,
        "out": str(place(of, name, seed, budget)),
        "evaluation.every": max(1, steps // 8),
    }
    return override(config, {**values, "name": f"bench-{of.name}", "evaluation.ode_steps": 0, "ratio_floor": "warn"})


def place(of: Kind, name: str, seed: int, budget: int) -> Path:
    """Return the folder of a run."""
    return Path("runs") / f"bench-{of.name}-{budget}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{seed}"


def run(of: Kind, name: str, seed: int, budget: int) -> Path:
    """Carry out a run in a process of its own, or what is left of it, and return its folder."""
    config = configuration(of, name, seed, budget)
    folder = Path(config.out)
    if not (folder / "summary.json").exists():
        if not config.source.draws:
            make("scenes", count=DRAWN, out=PAIRS)
        if config.model.path.startswith(STUDENT):
            _limner("distill", "scenes", "--out", STUDENT)  # returns at once where it is done
        started = (folder / "config.yaml").exists()
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.with_suffix(".yaml")
        write_text(file, to_yaml(config))
        _limner("train", str(file), "--quiet", *(["--resume"] if started else []), called=f"{name}, seed {seed}")
    return folder


def _limner(*arguments: str, called: str = "") -> None:
    """Carry out a command in a process of its own. Raises RunError with the last line that it said."""
    command = [sys.executable, "-m", "limner", *arguments]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RunError(f"{called or arguments[0]}: {done.stderr.strip().splitlines()[-1]}")


def row_of(of: Kind, name: str, seed: int, budget: int, folder: Path) -> Row:
    """Return the row of a finished run."""
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    held, diversity = found["heldout"], found["diversity"]
    values = {
        "budget": budget,
        "entry": name,
        "algorithm": type(override(recipe(of.recipe), {**of.keys, **of.entries[name]}).algorithm).__name__,
        "seed": seed,
        "iterations": found["iterations"],
        "network_evaluations": found["network_evaluations"],
        "train": round(trained(folder), 4),
        "before": round(held["before"]["value"], 4),
        "after": round(held["after"]["value"], 4),
        "change": round(held["change"]["value"], 4),
        "low": round(held["change"]["low"], 4),
        "high": round(held["change"]["high"], 4),
        "diversity_before": round(diversity["before"], 4),
        "diversity_after": round(diversity["after"], 4),
        "drift": round(drift(folder), 5),
        "processor_seconds": round(found["processor_seconds"]),
        "peak_memory_mib": round(found["peak_memory_mib"]),
        "curve": curve(folder),
    }
    return {column: str(values[column]) for column in COLUMNS}


def trained(folder: Path, share: float = 0.2) -> float:
    """Return the accuracy on train prompts in the last `share` of a run's iterations: what settings are chosen by.

    That of the weights that drew the samples: not averaged, and those of the old policy where there is one. NaN where
    pairs are given.
    """
    lines = [line.get("reward/scenes", math.nan) for line in read(folder)]
    return statistics.mean(lines[-max(1, round(share * len(lines))) :])


def drift(folder: Path) -> float:
    """Return E |v - v_base|^2 / D on the trained model's own held-out samples, noised again at logit-normal times.

    112 samples at four times each: of the run's last weights, not their average. NaN where nothing is noised.
    """
    assembly = open_run(folder).assembly
    config = assembly.config
    prompts = load_prompts(config.evaluation.prompts)
    index = torch.arange(len(prompts))
    policy, base = assembly.policy("policy"), assembly.policy("reference")
    if not isinstance(policy, ForwardProcess) or not isinstance(base, ForwardProcess):
        return math.nan
    with torch.no_grad():
        condition = assembly.model.encode(prompts)
        ids = index * config.group_size
        drawn = policy.sample(condition, index, index, ids, rng=Rng(("drift",)), record=False)
        rollout = Rollout(prompts, index, index, condition, drawn.sample, None, ids, 0)
        distances = [
            velocity_mse(policy.restore(pack, condition).velocity, base.restore(pack, condition).velocity)
            for pack in policy.renoise(rollout, index, Renoising(4, "logit_normal"), Rng(("drift",)), 128)
        ]
    return float(torch.cat(distances).mean())


def read_rows(path: Path) -> list[Row]:
    """Return the rows that `write_rows` wrote; none if there is no file. Raises UserError for another table."""
    if not path.exists():
        return []
    table = csv.DictReader(io.StringIO(text_of(path, str(path)), newline=""))
    rows = list(table)
    if not {*COLUMNS} <= {*(table.fieldnames or ())} or any(None in row.values() for row in rows):
        raise UserError(f"{path} is not what was measured here; choose another folder with --out")
    return rows


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def markdown(rows: list[Row]) -> str:
    """Return a line for each entry and budget, the largest and best first: means over seeds, ranges of the change."""
    keys = dict.fromkeys((row["entry"], row["budget"]) for row in rows)
    entries = {key: [row for row in rows if (row["entry"], row["budget"]) == key] for key in keys}

    def mean(key: tuple[str, str], column: str) -> float:
        return statistics.mean(float(row[column]) for row in entries[key])

    lines = [
        "| entry | evaluations | seeds | train | before | after | change | diversity | drift | CPU seconds | MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for key in sorted(entries, key=lambda key: (-int(key[1]), -mean(key, "after"))):
        change = [100 * float(row["change"]) for row in entries[key]]
        cells = [
            key[0],
            f"{mean(key, 'network_evaluations'):,.0f}",
            str(len(change)),
            f"{100 * mean(key, 'train'):.1f} %".replace("nan %", ""),
            f"{100 * mean(key, 'before'):.1f} %",
            f"{100 * mean(key, 'after'):.1f} %",
            f"{statistics.mean(change):+.1f}" + (f" ({min(change):+.1f} to {max(change):+.1f})" if change[1:] else ""),
            f"{mean(key, 'diversity_before'):.3f} to {mean(key, 'diversity_after'):.3f}",
            f"{mean(key, 'drift'):.4f}".replace("nan", ""),
            f"{mean(key, 'processor_seconds'):.0f}",
            f"{mean(key, 'peak_memory_mib'):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(plt: Any, rows: list[Row], picture: Path) -> None:
    """Draw the entries of the largest budget: all changes, and the curves of the eight that end highest.

    Curves are held-out accuracy on a part of the prompts; ranges are those over seeds.
    """
    budget = max(int(row["budget"]) for row in rows)
    entries: dict[str, list[Row]] = {}
    for row in rows:
        if int(row["budget"]) == budget:
            entries.setdefault(row["entry"], []).append(row)
    figure, (bars, axes) = plt.subplots(1, 2, figsize=(14, max(4.0, 1.5 + 0.24 * len(entries))), layout="constrained")
    change = {name: [100 * float(row["change"]) for row in of] for name, of in entries.items()}
    order = sorted(change, key=lambda name: statistics.mean(change[name]))
    middle = [statistics.mean(change[name]) for name in order]
    reach = [[m - min(change[n]) for n, m in zip(order, middle, strict=True)],
             [max(change[n]) - m for n, m in zip(order, middle, strict=True)]]  # fmt: skip
    bars.barh(order, middle, xerr=reach, color=["#c44e52" if m < 0 else "#4c72b0" for m in middle], height=0.7)
    bars.set(xlabel="change of held-out accuracy, points (lines: range over seeds)", xlim=(-12, None))
    bars.grid(alpha=0.3, axis="x")
    best = sorted(entries, key=lambda name: -statistics.mean(float(row["after"]) for row in entries[name]))[:8]
    for number, name in enumerate(best):
        columns = list(zip(*([_point(text) for text in row["curve"].split()] for row in entries[name]), strict=False))
        x = [statistics.mean(point[0] for point in column) for column in columns]
        y = [[point[1] for point in column] for column in columns]
        colour = plt.get_cmap("tab10").colors[number]
        axes.plot(x, [statistics.mean(values) for values in y], marker=".", color=colour, label=name)
        axes.fill_between(x, [min(v) for v in y], [max(v) for v in y], alpha=0.12, color=colour)
    axes.set(xlabel="network evaluations (rollout and update)", ylabel="held-out accuracy, part of the prompts")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="upper left")
    figure.savefig(picture, dpi=90)
    plt.close(figure)


def curve(folder: Path) -> str:
    """Return "network evaluations:held-out accuracy" along a run, separated by spaces."""
    found = [line for line in read(folder) if "heldout/overall" in line]
    return " ".join(f"{line['network_evaluations']:.0f}:{line['heldout/overall']:.4f}" for line in found)


def _point(text: str) -> tuple[float, float]:
    evaluations, _, accuracy = text.partition(":")
    return float(evaluations), float(accuracy)
