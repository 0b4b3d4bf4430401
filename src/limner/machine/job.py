"""A run as a cluster's job: which processes share it, which judge stands beside them, and what a shell does on a node.

Nothing is submitted: `slurm.py` and `kubernetes.py` say the same job in the words of their cluster.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from limner.core.errors import UserError, shown
from limner.judging.exchange import address, loopback
from limner.registry.find import find
from limner.registry.names import REWARDS
from limner.rewards.algebra.parse import parse
from limner.rewards.algebra.tree import Leaf, leaves
from limner.training.config import RunConfig
from limner.training.spread import called, members

MEETING_PORT = 29400
"""Where the processes of several nodes meet: what docs/scale.md says of torchrun."""
MARGIN = 900
"""Seconds of a job beyond its session's `max_hours`: to start, to wait for a judge, to write the last checkpoint."""
PATIENCE = 600
"""Seconds in which a judge beside the run must have begun to listen."""
MAX_HOURS = 8760
MAX_NAME = 40


@dataclass(frozen=True)
class Beside:
    """A judge on each node, asked at its own address: the command that hosts it, its port, and how many GPUs it has."""

    command: str
    port: int
    gpus: int

    @property
    def listens(self) -> str:
        """A command that succeeds once the judge listens."""
        return f"""python -c "import socket; socket.create_connection(('127.0.0.1', {self.port}), 5).close()\""""


@dataclass(frozen=True)
class Job:
    """A run by `gpus` processes on each of `nodes` nodes; `words` are what `limner train` is told.

    A session has `hours`, 0 for as many as it likes, and at most `sessions` follow one another.
    """

    name: str
    folder: str
    words: Sequence[str]
    nodes: int
    gpus: int
    hours: float
    sessions: int
    beside: Beside | None = None

    @property
    def seconds(self) -> int:
        """How long a session's job may take; 0: no limit."""
        return math.ceil(3600 * self.hours) + MARGIN if self.hours else 0

    def command(self, head: str, meeting: str) -> str:
        """Return what a shell runs on each node; `head` is the first node's name, `meeting` the session's, in a shell.

        It goes on where a checkpoint is, and begins where none is.
        """
        words = shlex.join([*self.words, "--resume"])
        if self.nodes == 1:
            return f"limner train {words}" + (f" --nproc {self.gpus}" if self.gpus > 1 else "")
        return (
            f"torchrun --nnodes {self.nodes} --nproc-per-node {self.gpus} --rdzv-backend c10d --rdzv-id {meeting} "
            f"--rdzv-endpoint {head}:{MEETING_PORT} -m limner train {words}"
        )


def job(
    config: RunConfig,
    words: Sequence[str],
    nodes: int,
    gpus_per_node: int,
    sessions: int,
    judge: str = "",
    judge_gpus: int = 0,
) -> Job:
    """Return the job of a run. Of each node's GPUs a judge beside it has `judge_gpus`, each process another one.

    `judge` is what `limner serve-reward` hosts where the reward asks it by `remote`, and the command of a server where
    a vision-language model is asked. Raises UserError, one line, for a run that the processes could not share, and for
    a reward that asks where nothing would answer.
    """
    gpus = gpus_per_node - judge_gpus
    if gpus < 1:
        raise UserError(f"launch: --judge-gpus {judge_gpus} leaves none of --gpus-per-node {gpus_per_node} to the run")
    if judge_gpus and not judge:
        raise UserError(f"launch: --judge-gpus {judge_gpus} are of a judge: say which with --judge")
    if config.device not in ("auto", "cuda"):
        raise UserError(f"launch: device is {config.device}, but each process of a job has a GPU: leave it out")
    processes = nodes * gpus
    count = members(config, processes)
    if count > config.prompts_per_step:
        raise UserError(
            f"launch: {called(config, count)} share whole groups, but an iteration has {config.prompts_per_step}: "
            "raise --prompts_per_step to a multiple of that, or ask for fewer GPUs"
        )
    if processes > 1 and config.algorithm.needs.alone:
        raise UserError(
            f"launch: {type(config.algorithm).__name__} learns from the states of all samples at once, and is for one "
            "process: take another algorithm, or --nodes 1 --gpus-per-node 1"
        )
    if processes > 1 and config.rollouts.by.workers:
        raise UserError(
            f"launch: rollouts.by.workers draw for one process that learns, and {processes} would: leave them out, or "
            "take --nodes 1 --gpus-per-node 1"
        )
    if config.max_hours > MAX_HOURS:
        raise UserError(f"launch: max_hours {config.max_hours:g} is longer than a year ({MAX_HOURS} hours)")
    folder = config.out or f"runs/{config.name}-{config.seed}"
    told = [*words, "--device", "cuda"]
    beside = _beside(config, judge, judge_gpus)
    return Job(_name(config.name), folder, told, nodes, gpus, config.max_hours, sessions, beside)


def _name(name: str) -> str:
    """Return what a cluster calls the job: small letters, digits and hyphens, a letter first."""
    return f"limner-{re.sub('[^a-z0-9]+', '-', name.lower())}"[:MAX_NAME].strip("-")


def _beside(config: RunConfig, judge: str, gpus: int) -> Beside | None:
    """Return the judge that stands beside the processes: where the reward asks this machine itself, one must."""
    asked = {place: leaf for text in (config.reward, config.evaluation.reward) for place, leaf in _local(text)}
    if not asked:
        if judge:
            raise UserError(
                f"launch: --judge {shown(judge)} would be asked by nobody: the reward asks no server at 127.0.0.1"
            )
        return None
    if len(asked) > 1:
        raise UserError(
            f"launch: one judge stands beside a run, but the reward asks at ports {', '.join(map(str, sorted(asked)))} "
            "of the same machine: host the others elsewhere, and give their url"
        )
    (port, leaf), *_ = asked.items()
    if not judge:
        raise UserError(
            f"launch: {leaf.name} asks at port {port} of its own machine, where nothing would listen: say what is "
            "hosted there with --judge, or give the url of a server that stands"
        )
    if leaf.name != "remote":
        return Beside(judge, port, gpus)
    parse(judge)
    return Beside(f"limner serve-reward {shlex.quote(judge)} --port {port}", port, gpus)


def _local(text: str) -> Iterator[tuple[int, Leaf]]:
    """Yield the ports at which judges of an expression ask their own machine, and which judge asks."""
    for leaf in leaves(parse(text)) if text else ():
        if leaf.name not in REWARDS:
            continue
        kind = find(REWARDS, "reward", leaf.name)
        defaults = {field.name: field.default for field in fields(kind)} if isinstance(kind, type) else {}
        for url in str(dict(leaf.settings).get("url", defaults.get("url", ""))).split(","):
            to = address(url, leaf.name) if url else None
            if to is not None and loopback(to.host):
                yield to.port or (443 if to.secure else 80), leaf
