"""Does a method's memory grow with the number of sampling steps? One iteration each, in a process of its own.

    python benchmarks/memory.py [--out docs/results]

For Flow-GRPO, which keeps the path, and DiffusionNFT and AWM, which noise the finished sample again: the bytes of the
rollout, and the peak memory of the process less that of one with 5 steps. Writes memory.json and memory.png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from limner.report.file import write_text

STEPS = (5, 10, 20, 40, 80)
METHODS = {
    "Flow-GRPO": {"algorithm": "FlowGRPO", "sampler.dynamics": "FlowSDE"},
    "DiffusionNFT": {"algorithm": "DiffusionNFT", "sampler.dynamics": "EulerODE"},
    "AWM": {"algorithm": "AWM", "sampler.dynamics": "EulerODE"},
}


def main() -> None:
    """Measure each (method, steps) in a process, write, plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "STEPS"), help="measure this one, and print it")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    rows = []
    for method in METHODS:
        for steps in STEPS:
            command = [sys.executable, __file__, "--one", method, str(steps)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append({"method": method, "steps": steps, **json.loads(out.splitlines()[-1])})
            print(rows[-1], flush=True)
    write_text(options.out / "memory.json", json.dumps(rows, indent=1) + "\n")
    plot(rows, options.out / "memory.png")


def measure(method: str, steps: int) -> dict[str, float]:
    """Return the mebibytes of a rollout and the peak of the process, after one iteration of the scenes recipe."""
    import torch

    from limner.build import assemble
    from limner.core.protocols import Context
    from limner.core.rng import Rng
    from limner.core.tree import leaves
    from limner.core.types import Batch
    from limner.engine.memory import peak_memory_mib
    from limner.recipes.named import recipe
    from limner.recipes.override import override
    from limner.rollout.collect import collect
    from limner.rollout.score import judge, render
    from limner.training.loop import update

    config = override(recipe("scenes"), {**METHODS[method], "sampler.steps": steps, "micro_batch": 72, "device": "cpu"})
    parts = assemble(config).parts
    studio = parts.studio
    chosen = [studio.prompts[i] for i in studio.sampler.indices(0).tolist()]
    rollout = collect(
        studio.policy,
        studio.cache,
        chosen,
        config.group_size,
        rng=Rng((0,)),
        step=0,
        record=parts.algorithm.needs.path,
        micro_batch=config.micro_batch,
    )
    scored = judge(rollout, render(rollout.sample, studio.decode, 72), studio.reward, 72)
    context = Context(Rng((1,)), 0, config.micro_batch)
    update(parts, Batch(rollout, parts.algorithm.advantage(scored, context)), context)
    peak = peak_memory_mib(torch.device("cpu"))
    return {"rollout_mib": sum(leaf.nbytes for leaf in leaves(rollout)) / 2**20, "peak_mib": peak}


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Draw both measures over the number of steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        axes[0].plot(STEPS, [row["rollout_mib"] for row in mine], marker="o", label=method)
        axes[1].plot(STEPS, [row["peak_mib"] - mine[0]["peak_mib"] for row in mine], marker="o", label=method)
    axes[0].set(xlabel="sampling steps", ylabel="rollout, MiB")
    axes[1].set(xlabel="sampling steps", ylabel="peak of the process beyond that of 5 steps, MiB")
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
