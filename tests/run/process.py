"""`limner` in processes of their own that can be killed, forked from one that has loaded torch and diffusers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["limner.run", "limner.models.sd3.adapter"])
PATIENCE = 120.0
"""Seconds after which a process is taken to hang."""


@dataclass(frozen=True)
class Death:
    """Where a process kills itself: before or after `os.replace` to a file, or in a checkpoint's third write.

    The first file whose name contains `file` is meant.
    """

    when: Literal["before", "after", "inside"]
    file: str


@dataclass(frozen=True)
class Command:
    """A `limner` process whose output goes to files."""

    process: ForkServerProcess
    error: Path

    def wait(self) -> int | None:
        """Return the exit code, or minus the signal that ended the process."""
        self.process.join(PATIENCE)
        return self.process.exitcode

    def send(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def lines(self) -> list[str]:
        """Return what it has written to stderr."""
        return self.error.read_text().splitlines()

    def wait_for(self, metrics: Path, lines: int) -> None:
        """Wait until a run has written so many whole lines of metrics."""
        end = time.monotonic() + PATIENCE
        while not metrics.exists() or metrics.read_text().count("\n") < lines:
            assert self.process.is_alive() and time.monotonic() < end, self.lines()
            time.sleep(0.001)


def start(arguments: list[str], error: Path, death: Death | None = None) -> Command:
    """Start `limner ARGUMENTS`."""
    process = CONTEXT.Process(target=_main, args=(arguments, str(error), death))
    process.start()
    return Command(process, error)


def run(arguments: list[str], error: Path, death: Death | None = None) -> tuple[int | None, list[str]]:
    """Run `limner ARGUMENTS`; return its exit code and what it wrote to stderr."""
    command = start(arguments, error, death)
    return command.wait(), command.lines()


def _main(arguments: list[str], error: str, death: Death | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    descriptor = os.open(error, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from limner.cli import main

    if death is not None:
        _prepare(death)
    sys.exit(main(arguments))


def _prepare(death: Death) -> None:
    from limner.engine import checkpoint

    replace, write = os.replace, checkpoint._Hashed.write
    writes: list[int] = []

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dying_replace(source: Any, target: Any) -> None:
        meant = death.file in Path(target).name
        if meant and death.when == "before":
            die()
        replace(source, target)
        if meant and death.when == "after":
            die()

    def dying_write(self: checkpoint._Hashed, data: bytes) -> int:
        if death.when == "inside" and death.file in str(self.file.name):
            writes.append(len(data))
        if len(writes) == 3:
            die()
        return write(self, data)

    os.replace, checkpoint._Hashed.write = dying_replace, dying_write
