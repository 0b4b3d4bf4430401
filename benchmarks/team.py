"""What two processes of a CPU are worth beside one with two threads, and beside one with one.

    python benchmarks/team.py [--recipe scenes] [--iterations 4] [--repeats 5] [--out FILE] [--KEY VALUE ...]

Runs `limner train RECIPE` for so many iterations in each of the three ways, in turn, `--repeats` times, on a machine
with two cores and nothing else to do. An iteration is rollout, reward and update, by the clock, as the first process's
log has them; the first of a run is left out, which warms up. Prints JSON: the median seconds of an iteration in each
way, how many times as fast two processes are as one with two threads (`to_threads`) and as one alone (`to_one`), both
as medians of the ratios of neighbouring runs, and `efficiency`, half of the latter. Keys are those of `limner train`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from limner.commands.parser import take_keys
from limner.core.errors import UserError
from limner.report.metrics import read

WAYS: Mapping[str, tuple[int, int]] = {"one": (1, 1), "threads": (1, 2), "processes": (2, 1)}
"""Processes, and threads of each."""
PHASES = ("rollout", "reward", "update")


def main() -> None:
    """Measure, print, and write what was printed if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="scenes")
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out")
    own = frozenset({"--recipe", "--iterations", "--repeats", "--out", "--help"})
    rest, values = take_keys(sys.argv[1:], own)
    options = parser.parse_args(rest)
    if options.iterations < 2:
        raise SystemExit("--iterations must be 2 or more: the first warms up, and is left out")
    keys = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    measured = measure(options.recipe, options.iterations, options.repeats, keys)
    told = json.dumps({"command": " ".join(["python", *sys.argv]), **measured}, indent=2)
    print(told)
    if options.out:
        Path(options.out).write_text(told + "\n", encoding="utf-8")


def measure(recipe: str, iterations: int, repeats: int, keys: Sequence[str]) -> dict[str, object]:
    """Return what is printed of runs in each way, in turn."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            with TemporaryDirectory() as folder:
                found[way].append(statistics.median(seconds(recipe, iterations, way, Path(folder) / "run", keys)))
    to_threads, to_one = (
        statistics.median(a / b for a, b in zip(found[way], found["processes"], strict=True))
        for way in ("threads", "one")
    )
    return {
        "recipe": recipe,
        "iterations": iterations,
        "repeats": repeats,
        "cores": os.cpu_count(),
        "seconds": {way: round(statistics.median(values), 4) for way, values in found.items()},
        "spread": {way: [round(min(values), 4), round(max(values), 4)] for way, values in found.items()},
        "to_threads": round(to_threads, 3),
        "to_one": round(to_one, 3),
        "efficiency": round(to_one / 2, 3),
    }


def seconds(recipe: str, iterations: int, way: str, folder: Path, keys: Sequence[str]) -> list[float]:
    """Return the seconds of each iteration but the first of a run that measures nothing else."""
    processes, threads = WAYS[way]
    count = str(threads)
    environment = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    command = [sys.executable, "-m", "limner", "train", recipe, "--out", str(folder), "--nproc", str(processes)]
    command += ["--steps", str(iterations), "--evaluation.prompts", "", "--quiet", *keys]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"limner train {recipe} by {way}: {said[-1]}")
    return [sum(line.get(f"seconds/{phase}", 0.0) for phase in PHASES) for line in read(folder)][1:]


if __name__ == "__main__":
    main()
