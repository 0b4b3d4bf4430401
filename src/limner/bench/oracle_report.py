"""`limner bench oracles`: run what is missing, keep every number as JSON, and say it as a table and a plot."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limner.bench import tokens
from limner.bench.oracles import ENTRIES, Point, curve, efficiency
from limner.bench.plotting import pyplot
from limner.core.errors import UserError, nearest
from limner.core.paths import text_of
from limner.report.file import write_text
from limner.worlds.oracle.world import WORLDS

NEAR = 1.0
"""Nats from the base. The first point of a curve beyond them is shown, which may be far beyond, or else its last."""

Key = tuple[str, str, int]
"""Entry, world, seed."""


def bench(folder: Path, seeds: int, names: Sequence[str] = ()) -> str:
    """Run every entry on every world and seed that FOLDER/oracles.json lacks; write the files, return the table.

    `names` restricts the entries; what others have done stays.
    """
    known = [*ENTRIES, *tokens.ENTRIES]
    for name in names:
        if name not in known:
            raise UserError(f"unknown entry {name!r}{nearest(name, known)}")
    plt = pyplot()
    path = folder / "oracles.json"
    done = read(path) if path.exists() else {}
    for name in [name for name in names if name in ENTRIES] if names else ENTRIES:
        for world in WORLDS:
            for seed in range(seeds):
                if (name, world, seed) not in done:
                    done[name, world, seed] = curve(ENTRIES[name], world, seed=seed)
                    write(path, done)
                    last = done[name, world, seed][-1]
                    print(f"{name}, {world}, seed {seed}: reward +{last.reward:.3f} at {last.kl:.2f} nats", flush=True)
    of_tokens = [name for name in names if name in tokens.ENTRIES]
    text = table(done) + "\n" + tokens.bench(folder, seeds, of_tokens if names else list(tokens.ENTRIES))
    write_text(folder / "oracles.md", text)
    plot(plt, done, folder / "oracles.png")
    return text


def read(path: Path) -> dict[Key, list[Point]]:
    """Return the curves of a file that `write` wrote. Raises UserError for another one."""
    try:
        rows = json.loads(text_of(path, str(path)))
        return {
            (row["entry"], row["world"], row["seed"]): [
                Point(**point | {"modes": tuple(point["modes"])}) for point in row["points"]
            ]
            for row in rows
        }
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not what was measured here ({error!r}); choose another folder with --out") from None


def write(path: Path, curves: dict[Key, list[Point]]) -> None:
    """Write curves as JSON, a row for each (entry, world, seed)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"entry": name, "world": world, "seed": seed, "points": [asdict(point) for point in points]}
        for (name, world, seed), points in sorted(curves.items())
    ]
    write_text(path, "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def table(curves: dict[Key, list[Point]]) -> str:
    """Return Markdown: mean over seeds, and the range where there are several."""
    lines = [
        "| algorithm | world | seeds | evaluations | reward gained | KL, nats | efficiency | first past 1 nat "
        "| own optimum | modes |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for name in ENTRIES:
        for world in WORLDS:
            found = [points for key, points in curves.items() if key[:2] == (name, world)]
            if not found:
                continue
            last, near = [points[-1] for points in found], [nearby(points) for points in found]
            modes = [statistics.mean(share) for share in zip(*(point.modes for point in last), strict=True)]
            own = [point.objective for point in last if point.objective is not None]
            cells = [
                name,
                world,
                str(len(found)),
                f"{statistics.mean(point.evaluations for point in last):,.0f}",
                _spread(point.reward for point in last),
                _spread(point.kl for point in last),
                _spread(efficiency(point) for point in last),
                f"{_spread(efficiency(point) for point in near)} at {statistics.mean(point.kl for point in near):.2g}",
                _spread(own),
                " ".join(f"{share:.2f}" for share in modes),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def nearby(points: Sequence[Point]) -> Point:
    """Return the first point that is at least NEAR nats from the base, or the last one."""
    return next((point for point in points if point.kl >= NEAR), points[-1])


def _spread(values: Iterable[float]) -> str:
    """Return `mean (low to high)`."""
    values = list(values)
    if not values:
        return ""
    low, mean, high = (f"{v:.3g}" for v in (min(values), statistics.mean(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def plot(plt: Any, curves: dict[Key, list[Point]], path: Path) -> None:
    """Draw reward over KL with the frontier, a panel for each world, and o3's mode weights over training."""
    figure, axes = plt.subplots(2, len(WORLDS), figsize=(13, 8), layout="constrained")
    shades = [*plt.get_cmap("tab20").colors, *plt.get_cmap("tab20b").colors]
    colours = dict(zip(ENTRIES, shades, strict=False))
    for ax, world in zip(axes[0], WORLDS, strict=True):
        best = sorted((p.kl, p.frontier) for key, points in curves.items() if key[1] == world for p in points)
        ax.plot(
            *zip(*[(kl, most) for kl, most in best if kl > 0.01], strict=True), color="black", lw=1, label="frontier"
        )
        for (name, where, _), points in curves.items():
            if where == world:
                moved = [(p.kl, p.reward) for p in points if p.kl > 0.01]
                ax.plot(*zip(*moved, strict=True), color=colours[name], alpha=0.6, marker=".", lw=1)
        ax.set(title=world, xlabel="KL to the base, nats", ylabel="mean reward gained", xscale="log")
        ax.set_yscale("log" if world == "o1" else "linear")
        ax.grid(alpha=0.3)
    modes = range(len(WORLDS["o3"].base.weights))
    for ax, chosen in zip(axes[1], _thirds(list(ENTRIES)), strict=True):
        for name in chosen:
            found = [points for key, points in curves.items() if key[:2] == (name, "o3")]
            for mode in modes if found else ():
                shares = [statistics.mean(p.modes[mode] for p in column) for column in zip(*found, strict=True)]
                steps = [p.iteration / found[0][-1].iteration for p in found[0]]
                style = ("--", "-", "-.", ":")[mode]
                ax.plot(steps, shares, style, color=colours[name], label=name if mode == 1 else None)
        ax.set(title="o3: share of each mode", xlabel="share of the run", ylim=(0, 1))
        ax.legend(fontsize=8)
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _thirds(names: list[str]) -> list[list[str]]:
    size = math.ceil(len(names) / 3)
    return [names[:size], names[size : 2 * size], names[2 * size :]]
