"""The command that writes a cluster's job, and leaves submitting it to people."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from limner.commands import words
from limner.commands.parser import AddCommand
from limner.commands.training import KEYS, MAX_PROCESSES, add_recipe, config_of
from limner.core.errors import UserError, shown
from limner.core.paths import to_file

CLUSTERS = {"slurm": ("partition", "account", "cpus_per_gpu", "setup"), "kubernetes": ("image", "volume")}
"""The kinds of cluster, and what is said to one of them only."""


def add_launch_command(command: AddCommand) -> None:
    """Add `launch`."""
    launch = command("launch", _launch, "write a cluster's job for a training over several nodes; submit nothing", KEYS)
    launch.add_argument("cluster", metavar="CLUSTER", choices=list(CLUSTERS), help=" or ".join(CLUSTERS))
    add_recipe(launch, out="--run")
    launch.add_argument("--nodes", type=words.at_most(1000), default=1, metavar="N", help="(1)")
    launch.add_argument("--gpus-per-node", type=words.at_most(MAX_PROCESSES), default=1, metavar="N", help="(1)")
    launch.add_argument(
        "--sessions", type=words.at_most(1000), default=10, metavar="N", help="how many follow one another at most (10)"
    )
    launch.add_argument(
        "--judge",
        default="",
        metavar="WHAT",
        help="hosted on each node where the reward asks 127.0.0.1: an expression; for vlm_...: a server's command",
    )
    launch.add_argument(
        "--judge-gpus", type=words.natural, default=0, metavar="N", help="of each node's GPUs, for the judge (0)"
    )
    launch.add_argument("--partition", metavar="NAME", help="of slurm")
    launch.add_argument("--account", metavar="NAME", help="of slurm")
    launch.add_argument("--cpus-per-gpu", type=words.at_most(1000), metavar="N", help="of slurm (8)")
    launch.add_argument("--setup", action="append", metavar="LINE", help="of slurm: run on each node first; repeatable")
    launch.add_argument("--image", metavar="IMAGE", help="of kubernetes: a container image that has limner")
    launch.add_argument("--volume", metavar="CLAIM", help="of kubernetes: the claim of a volume that all pods write")
    launch.add_argument("--out", metavar="FILE", help="a new file, as in run.sbatch (it is printed)")


def _launch(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    own = _said(parsed)
    told = argparse.Namespace(**vars(parsed) | {"out": parsed.run})
    config = config_of(told, values)
    from limner.machine.job import job
    from limner.machine.kubernetes import Kubernetes, kubernetes
    from limner.machine.slurm import Slurm, slurm
    from limner.report.file import write_text

    if parsed.judge_gpus < 0:
        raise UserError(f"argument --judge-gpus: needs a whole number from 0, got {parsed.judge_gpus}")
    asked = job(
        config, _train_words(told, values), parsed.nodes, parsed.gpus_per_node, parsed.sessions, parsed.judge,
        parsed.judge_gpus,
    )  # fmt: skip
    by = " ".join(shlex.join(["limner", *parsed.typed]).split())
    if parsed.cluster == "slurm":
        text = slurm(asked, Slurm(**own), by)
    else:
        text = kubernetes(asked, Kubernetes(parsed.image or "", parsed.volume or ""), by)
    if parsed.out is None:
        print(text, end="")
        return
    path = to_file(parsed.out, "--out")
    if path.exists():
        raise UserError(f"{path} is there already, and nothing is written over: give another --out")
    write_text(path, text)
    print(path)


def _said(parsed: argparse.Namespace) -> dict[str, Any]:
    """Return what was said to the cluster. Raises UserError for what only another kind of cluster is told."""
    said = {name: vars(parsed)[name] for names in CLUSTERS.values() for name in names}
    said = {name: value for name, value in said.items() if value is not None}
    for name, value in said.items():
        flag = f"--{name.replace('_', '-')}"
        if name not in CLUSTERS[parsed.cluster]:
            raise UserError(f"launch {parsed.cluster} has no {flag}: it is of another kind of cluster")
        lines = value if isinstance(value, list) else [str(value)]
        if not all(line.strip() and line.isprintable() for line in lines):
            raise UserError(f"argument {flag}: needs one line that can be printed, got {shown(lines[0])}")
    return said


def _train_words(parsed: argparse.Namespace, values: Mapping[str, Any]) -> list[str]:
    """Return what `limner train` is told for the same configuration; a key without a value stands by itself."""
    flags = {"--" + name: vars(parsed)[name] for name in ("preset", "prompts", "seed", "out")}
    flags["--reward"] = parsed.reward and parsed.reward[0]
    said = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
    keys = [f"--{key}" if value is True else f"--{key}={value}" for key, value in values.items()]
    return [parsed.recipe, *said, *keys]
