"""`limner bench scenes`: every algorithm teaches the same base at the same number of network evaluations.

A row is one run of the scenes recipe with an entry's keys, in a process of its own, with as many iterations as the
budget of network evaluations (rollout and update) pays for. Rows are kept in FOLDER/scenes.csv and never run again;
runs lie in runs/bench-scenes-BUDGET-ENTRY-SEED and go on where they stopped.
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
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from limner.bench.annotated import Annotated
from limner.bench.plotting import pyplot
from limner.build import assemble, load_prompts
from limner.core.errors import RunError, UserError, nearest
from limner.core.needs import Renoising
from limner.core.paths import text_of
from limner.core.protocols import Context, ForwardProcess
from limner.core.rng import Rng
from limner.core.types import Rollout
from limner.learning.credit import credited
from limner.objectives.matching import velocity_mse
from limner.pairs import make
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.recipes.presets import PRESETS
from limner.recipes.yaml import to_yaml
from limner.report.file import write_text
from limner.report.metrics import read
from limner.run import open_run
from limner.training.config import Evaluation, Full, Model, RunConfig
from limner.training.loop import update
from limner.worlds.annotator import Annotator

FLOW = {"sampler.dynamics": "FlowSDE", "sampler.dynamics.noise_level": 0.7}
WINDOW = {"sampler.window": 3, "sampler.window_range": (0, 4)}
TREE = {"sampler.splits": (0, 1, 2, 3), "group_size": 16, "prompts_per_step": 9}
LATE = {"algorithm.num_times": 3, "algorithm.min_time": 0.5, "sampler.dynamics": "DPMSolver"}  # as the recipe does
DEPTH = {"algorithm.scale": "depth", "algorithm.ddof": 1, "algorithm.epsilon": 1e-8}
UNET = {
    "model.kind": "sd",
    "model.path": "scenes_sd",
    "sampler.dynamics": "DDIM",
    "sampler.dynamics.eta": 1.0,
    "sampler.steps": 10,
    "sampler.grid": "own",
}
NOISY = {"algorithm.num_times": 3, "algorithm.min_time": 0.35}  # more noise than picture, as at .5 on the flow's line
PAIRED = {"algorithm.noising.num_times": 3, "algorithm.noising.min_time": 0.5}  # as the recipe has its times
GIVEN = {**PAIRED, "source": "Preferences", "prompts": "", "reward": "", "prompts_per_step": 72, "group_size": 2}
WITHIN = "0.5 * {0}(scenes) + 0.5 * {0}(scenes.fraction)"
ENTRIES: dict[str, Mapping[str, Any]] = {
    "DiffusionNFT, on policy": {"algorithm.decay": "none"},
    "Flow-GRPO": {"algorithm": "FlowGRPO", **FLOW, **WINDOW},
    "Flow-GRPO, published": PRESETS["flow_grpo"].keys,
    "Flow-GRPO, published, lr 1e-3": {**PRESETS["flow_grpo"].keys, "optimizer.lr": 1e-3},
    "Flow-GRPO, published, lr 3e-3": {**PRESETS["flow_grpo"].keys, "optimizer.lr": 3e-3},
    "Flow-GRPO-Fast": PRESETS["flow_grpo_fast"].keys,
    "Flow-CPS": {**PRESETS["flow_cps"].keys, "algorithm.ratio": "log_ratio"},
    "DanceGRPO": PRESETS["dance_grpo"].keys,
    "MixGRPO": PRESETS["mix_grpo"].keys,
    "Dr.GRPO": {**PRESETS["dr_grpo"].keys, **FLOW, **WINDOW},
    "GDPO": {**PRESETS["gdpo"].keys, "reward": WITHIN.format("group"), **FLOW, **WINDOW},
    "Pref-GRPO": {**PRESETS["pref_grpo"].keys, "reward": WITHIN.format("rank"), **FLOW, **WINDOW},
    "BranchGRPO": {"algorithm": "FlowGRPO", **DEPTH, **FLOW, **TREE},
    "TempFlow-GRPO": PRESETS["temp_flow_grpo"].keys,
    "GRPO-Guard": {"algorithm": "GRPOGuard", **FLOW, **WINDOW},
    "Flow-DPPO": {"algorithm": "FlowDPPO", **FLOW, **WINDOW},
    "REINFORCE": {**PRESETS["reinforce"].keys, **FLOW, **WINDOW},
    "DDPO": {"algorithm": "DDPO", "algorithm.num_updates": 2, **FLOW, **WINDOW},
    "DPOK": {**PRESETS["dpok"].keys, **FLOW},
    "PPO": {"algorithm": "PPO", **FLOW},
    "TRPO": {"algorithm": "TRPO", **FLOW, **WINDOW},
    "DiffusionNFT, published": {
        "algorithm": "DiffusionNFT",
        "algorithm.decay": "linear",
        "algorithm.kl_weight": 1e-4,
        "algorithm.num_times": 9,
        "algorithm.min_time": 0.0,
        "sampler.grid": "own",
        "optimizer.lr": 3e-4,
    },
    "AWM, published times": {
        "algorithm": "AWM",
        "algorithm.times": "shifted_logit_normal",
        "algorithm.min_time": 0.01,
    },
    "AWM, all times": {"algorithm": "AWM"},
    "AWM": {"algorithm": "AWM", **LATE},
    "ELBO": {**PRESETS["elbo"].keys, **LATE},
    "DGPO": {"algorithm": "DGPO", **LATE},
    "RWR": {**PRESETS["rwr"].keys, **LATE},
    "RWR, temperature 5": {**PRESETS["rwr"].keys, **LATE, "algorithm.temperature": 5.0},
    "RWR, lr 3e-4": {**PRESETS["rwr"].keys, **LATE, "optimizer.lr": 3e-4},
    "RAFT": {**PRESETS["raft"].keys, **LATE},
    "DPO": {"algorithm": "DPO", "algorithm.beta": 20.0, **GIVEN},
    "DPO, online": {"algorithm": "DPO", "algorithm.beta": 20.0, **PAIRED},
    "IPO": {"algorithm": "DPO", "algorithm.loss": "ipo", "algorithm.beta": 20.0, **GIVEN},
    "KTO": {"algorithm": "KTO", "algorithm.beta": 10.0, **GIVEN, "source.unpair": True},
    "MaPO": {"algorithm": "MaPO", "algorithm.margin_scale": 40.0, **GIVEN},
    "SPO": PRESETS["spo"].keys,
    "UNet: DDPO": {"algorithm": "DDPO", "algorithm.num_updates": 2, **UNET, **WINDOW},
    "UNet: DDPO, all steps": {"algorithm": "DDPO", "algorithm.num_updates": 2, **UNET},
    "UNet: REINFORCE": {**PRESETS["reinforce"].keys, **UNET, **WINDOW},
    "UNet: DPOK": {**PRESETS["dpok"].keys, **UNET},
    "UNet: PPO": {"algorithm": "PPO", **UNET},
    "UNet: Flow-GRPO": {"algorithm": "FlowGRPO", **UNET, **WINDOW},
    "UNet: DiffusionNFT, on policy": {**UNET, **NOISY, "algorithm.decay": "none"},
    "UNet: AWM": {"algorithm": "AWM", **UNET, **NOISY},
    "UNet: RWR": {**PRESETS["rwr"].keys, **UNET, **NOISY},
}
CLOSER = (
    "DPO", "DPO, online",
    "DiffusionNFT, on policy", "AWM", "ELBO", "Flow-GRPO-Fast", "DGPO", "GRPO-Guard", "Flow-GRPO", "Flow-DPPO",
    "UNet: DiffusionNFT, on policy", "UNet: AWM", "AWM, published times", "DDPO", "DanceGRPO",
    "DiffusionNFT, published", "Flow-GRPO, published", "Flow-GRPO, published, lr 1e-3", "Flow-GRPO, published, lr 3e-3",
)  # fmt: skip
"""Entries of three seeds: those that came out best with one, and the best-known methods. The others have one."""
DRAWN, PAIRS = 3400, Path("runs/bench-scenes-pairs")
"""How many pairs of the base's samples are drawn for the entries that are given pairs; 1,975 are told apart."""
COLUMNS = (
    "budget", "entry", "algorithm", "seed", "iterations", "network_evaluations", "train", "before", "after", "change",
    "low", "high", "diversity_before", "diversity_after", "drift", "processor_seconds", "peak_memory_mib", "curve",
)  # fmt: skip
Row = dict[str, str]


def bench(folder: Path, seeds: int | None, budget: int, names: Sequence[str] = ()) -> str:
    """Run what FOLDER/scenes.csv lacks; write it, the curves and the plot; return the table as Markdown.

    Without `seeds` it is three of the entries in CLOSER and one of the others; without `names`, all entries.
    """
    for name in names:
        if name not in ENTRIES:
            raise UserError(f"unknown entry {name!r}{nearest(name, ENTRIES)}")
    plt = pyplot()
    table = folder / "scenes.csv"
    rows = read_rows(table)
    for name in names or ENTRIES:
        for seed in range(seeds or (3 if name in CLOSER else 1)):
            if not any((row["budget"], row["entry"], row["seed"]) == (str(budget), name, str(seed)) for row in rows):
                rows.append(row_of(name, seed, budget, run(name, seed, budget)))
                write_rows(table, rows)
                print(f"{name}, seed {seed}: {rows[-1]['before']} to {rows[-1]['after']}", flush=True)
    text = markdown(rows)
    write_text(folder / "scenes.md", text)
    plot(plt, rows, folder)
    return text


def configuration(name: str, seed: int, budget: int) -> RunConfig:
    """Return the run of an entry: the scenes recipe with its keys, as long as the budget lasts."""
    config = override(recipe("scenes"), ENTRIES[name])
    steps = max(1, budget // evaluations(config))
    given = {} if config.source.draws else {"source.data": str(PAIRS)}
    values = given | {
        "seed": seed,
        "steps": steps,
        "out": str(place(name, seed, budget)),
        "evaluation.every": max(1, steps // 8),
    }
    return override(config, {**values, "name": "bench-scenes", "evaluation.ode_steps": 0, "ratio_floor": "warn"})


def place(name: str, seed: int, budget: int) -> Path:
    """Return the folder of a run."""
    return Path("runs") / f"bench-scenes-{budget}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{seed}"


def evaluations(config: RunConfig) -> int:
    """Return the network evaluations of one iteration, if all samples teach: those that the counter of a run has seen.

    Counted is one group, on average over the windows that may be drawn for it.
    """
    sampler = config.sampler
    assert isinstance(sampler, Sampler)  # every entry is of a denoiser
    low, high = sampler.window_range if sampler.window and sampler.window_schedule == "random" else (0, 0)
    starts = [(start, start) for start in range(low, high + 1)] if high > low else [sampler.window_range]
    counts = [counted(replace(config, sampler=replace(sampler, window_range=each))) for each in starts]
    return round(config.prompts_per_step * statistics.mean(counts))


def counted(config: RunConfig) -> int:
    """Carry out an iteration of one group, half of it good, or one pair; return how often its network was asked.

    The network is an oracle's, which costs nothing: how often a network is asked does not depend on what it answers.
    """
    model = Model("limner.worlds.oracle.model:OracleSettings", "o2", train=Full())
    small = replace(config, model=model, prompts="oracle:train", reward="o2", evaluation=Evaluation(), device="cpu")
    source = small.source if small.source.draws else Annotated(Annotator("o2"))
    parts = assemble(replace(small, source=source, prompts_per_step=1)).parts
    rng = Rng((config.seed, "counted"))
    scored = parts.source.scored(parts.studio, 0, 1, rng, lambda phase: nullcontext())
    advantage = torch.ones(len(scored.total))
    advantage[::2] = -1
    advantage[2:] *= not parts.algorithm.needs.pairs
    update(parts, credited(scored, advantage), Context(rng.child("update"), 0, config.micro_batch))
    return parts.evaluations()


def run(name: str, seed: int, budget: int) -> Path:
    """Carry out a run in a process of its own, or what is left of it, and return its folder."""
    config = configuration(name, seed, budget)
    folder = Path(config.out)
    if not (folder / "summary.json").exists():
        if not config.source.draws:
            make("scenes", count=DRAWN, out=PAIRS)
        started = (folder / "config.yaml").exists()
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.with_suffix(".yaml")
        write_text(file, to_yaml(config))
        command = [sys.executable, "-m", "limner", "train", str(file), "--quiet", *(["--resume"] if started else [])]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RunError(f"{name}, seed {seed}: {done.stderr.strip().splitlines()[-1]}")
    return folder


def row_of(name: str, seed: int, budget: int, folder: Path) -> Row:
    """Return the row of a finished run."""
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    held, diversity = found["heldout"], found["diversity"]
    values = {
        "budget": budget,
        "entry": name,
        "algorithm": type(override(recipe("scenes"), ENTRIES[name]).algorithm).__name__,
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

    112 samples at four times each: of the run's last weights, not their average.
    """
    assembly = open_run(folder).assembly
    config = assembly.config
    prompts = load_prompts(config.evaluation.prompts)
    index = torch.arange(len(prompts))
    policy, base = assembly.policy("policy"), assembly.policy("reference")
    assert isinstance(policy, ForwardProcess) and isinstance(base, ForwardProcess)
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
            f"{mean(key, 'drift'):.4f}",
            f"{mean(key, 'processor_seconds'):.0f}",
            f"{mean(key, 'peak_memory_mib'):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(plt: Any, rows: list[Row], folder: Path) -> None:
    """Draw the entries of the largest budget: all changes, and the curves of the eight that end highest.

    Curves are held-out accuracy on a part of the prompts; ranges are those over seeds.
    """
    budget = max(int(row["budget"]) for row in rows)
    entries: dict[str, list[Row]] = {}
    for row in rows:
        if int(row["budget"]) == budget:
            entries.setdefault(row["entry"], []).append(row)
    figure, (bars, axes) = plt.subplots(1, 2, figsize=(14, 1.5 + 0.24 * len(entries)), layout="constrained")
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
    figure.savefig(folder / "scenes.png", dpi=90)
    plt.close(figure)


def curve(folder: Path) -> str:
    """Return "network evaluations:held-out accuracy" along a run, separated by spaces."""
    found = [line for line in read(folder) if "heldout/overall" in line]
    return " ".join(f"{line['network_evaluations']:.0f}:{line['heldout/overall']:.4f}" for line in found)


def _point(text: str) -> tuple[float, float]:
    evaluations, _, accuracy = text.partition(":")
    return float(evaluations), float(accuracy)
