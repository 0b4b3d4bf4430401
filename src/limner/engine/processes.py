"""Processes of this machine that share a run: started together, and ended together.

The first speaks to the person. What the others write to stderr is kept, and shown of one that failed by itself; one
that only lost its peers (`LostPeer`) has nothing to tell. None outlives the process that started it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

from limner.core.errors import PEER_LOST, RunError
from limner.engine.device import RENDEZVOUS

HOST = "127.0.0.1"
PATIENCE = 15.0
"""Seconds in which processes end by themselves, once one has failed or the person has interrupted them."""
MAX_SAID = 10_000
"""Last characters of what a process said that are shown."""


@dataclass(frozen=True)
class Place:
    """Which of how many processes one is, and the port where they meet."""

    rank: int
    count: int
    port: int

    def told(self) -> dict[str, str]:
        """Return the variables by which torchrun says so; the last says that no process has to serve the store."""
        rank, count = str(self.rank), str(self.count)
        told = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": count,
            "MASTER_ADDR": HOST,
            "MASTER_PORT": str(self.port),
        }
        return told | {"TORCHELASTIC_USE_AGENT_STORE": "True"}


class Stream:
    """An open file that a process is handed, whoever it is forked of."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Callable[[Any], Stream], tuple[Any]]:
        return _received, (DupFd(self.descriptor),)


def _received(sent: Any) -> Stream:
    return Stream(sent.detach())


def together(count: int, main: Callable[[list[str]], int], arguments: list[str], preload: str) -> None:
    """Run `main(arguments)` in `count` processes, each told its rank as torchrun tells it.

    They are forked of one that has imported the module `preload`. Raises RunError, one line, for the process that
    failed first; SystemExit where the first process has said why itself; an interruption is handed on to all.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / str(rank) for rank in range(count)]
        every: list[ForkServerProcess] = []
        try:
            for rank, place in enumerate(said):
                with place.open("w") as kept:
                    errors = Stream(kept.fileno() if rank else 2)
                    work = (Place(rank, count, store.port), Stream(1), errors, main, arguments)
                    every.append(context.Process(target=_member, args=work))
                    every[-1].start()
            failed = _first_failed(every)
        except KeyboardInterrupt:
            _end(every, signal.SIGINT)
            raise SystemExit(128 + signal.SIGINT) from None
        if failed:
            _raise(_end(every, None), said)


def size_of_team() -> int | None:
    """Return how many processes were started with this one, by `together` or torchrun; None: none."""
    return int(os.environ["WORLD_SIZE"]) if all(os.environ.get(name) for name in RENDEZVOUS) else None


def leave_with_parent() -> None:
    """End this process when the one that started it ends, however that ended: no orphan goes on writing checkpoints."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _member(
    place: Place, output: Stream, errors: Stream, main: Callable[[list[str]], int], arguments: list[str]
) -> None:
    """Be one of the processes: in a group of its own, for a terminal's Ctrl-C is its parent's to hand on, once."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    leave_with_parent()
    os.dup2(output.descriptor, 1)
    os.dup2(errors.descriptor, 2)
    os.environ |= place.told()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // place.count))
    sys.exit(main(arguments))


def _first_failed(every: Sequence[ForkServerProcess]) -> bool:
    """Wait until all have ended well, or one has not; return whether one has not."""
    running: dict[Any, ForkServerProcess] = {process.sentinel: process for process in every}
    while running:
        for sentinel in wait(list(running)):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode:
                return True
    return False


def _end(every: Sequence[ForkServerProcess], number: signal.Signals | None) -> list[int | None]:
    """See to it that all have ended, and return the codes of those that did by themselves, or asked by a signal."""
    for process in every:
        if number is not None and process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)
    for process in every:
        process.join(PATIENCE)
    codes = [process.exitcode for process in every]
    for process in every:
        process.kill()
        process.join()
    return codes


def _raise(codes: Sequence[int | None], said: Sequence[Path]) -> None:
    culprits = [(rank, code) for rank, code in enumerate(codes) if code not in (None, 0, PEER_LOST)]
    rank, code = culprits[0] if culprits else (0, PEER_LOST)
    assert code is not None
    if rank == 0 and code > 0:
        raise SystemExit(code)
    text = said[rank].read_text(errors="replace")[-MAX_SAID:] if rank else ""
    *before, last = text.strip().splitlines() or [""]
    if before:
        print("\n".join(before), file=sys.stderr)
    ended = f"it was ended by signal {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"
    reason = last.removeprefix("limner: ") if code > 0 and last else ended
    raise RunError(f"process {rank} of {len(codes)}: {reason}")
