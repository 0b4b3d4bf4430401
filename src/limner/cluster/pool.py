"""Workers that each hold one thing, made where they are, and answer what they are asked about it.

A worker that ends, killed, out of memory or with its machine, is started anew, makes the thing again, and is asked anew
what it had not answered: so what is asked must not change the thing in a way that later answers depend on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from limner.cluster.place import Place, join, require
from limner.core.errors import LimnerError, RunError, UserError

Answer = TypeVar("Answer")

MAX_SAID = 300
"""Characters of what Ray says that are repeated."""
TRIES = 4
"""How often something is asked before it is given up: it may be what ends the workers."""


class Lost(LimnerError):
    """Something was not answered: every worker that was asked ended, or one took too long."""


@dataclass(frozen=True)
class Asked:
    """A question on its way."""

    worker: Any
    answer: Any


@dataclass(frozen=True)
class Shared:
    """Something that was put where all workers can read it; it goes when nobody has this any more."""

    reference: Any

    def read(self) -> Any:
        """Return it, in a worker or here."""
        import ray

        return ray.get(self.reference)


class Worker:
    """What a process of the pool is: it works in `folder`, so that paths mean what they mean where it was started."""

    def __init__(self, make: Callable[[], Any], folder: str) -> None:
        self.make, self.folder = make, folder
        self.made: list[Any] = []

    def ask(self, question: Callable[..., Answer], *given: Any) -> Answer:
        """Return the answer; the first question makes the thing, so that what prevents that is said like all else."""
        if not self.made:
            if not Path(self.folder).is_dir():
                raise UserError(
                    f"a Ray worker finds no folder {self.folder}: start limner in one that all machines of the cluster "
                    "have in common"
                )
            os.chdir(self.folder)
            self.made.append(self.make())
        return question(self.made[0], *given)


class Pool:
    """The workers of a place; `what` they are for stands before what is wrong with them.

    `make` and what is asked must be functions of a module, or parts of these: only their names travel.
    """

    def __init__(self, make: Callable[[], Any], place: Place, what: str) -> None:
        self.place, self.what = place, what
        self._ray = join(what)
        require(place, self._ray, what)
        options = place.options() | {"max_task_retries": TRIES - 1}
        start = self._ray.remote(Worker).options(**options).remote
        self._workers = [start(make, str(Path.cwd())) for _ in range(place.workers)]
        self._turns = count()

    def ask(self, question: Callable[..., Any], *given: Any) -> Asked:
        """Ask the worker whose turn it is `question(thing, *given)`, and do not wait."""
        worker = self._workers[next(self._turns) % len(self._workers)]
        return Asked(worker, worker.ask.remote(question, *given))

    def answer(self, asked: Asked) -> Any:
        """Wait for an answer. Raises Lost if there is none, and whatever of limner's own errors the worker raised.

        Any other exception of a worker is a RunError.
        """
        from ray import exceptions

        try:
            return self._ray.get(asked.answer, timeout=self.place.seconds)
        except exceptions.GetTimeoutError as late:
            self._ray.kill(asked.worker, no_restart=False)
            raise Lost(f"{self.what}: no answer in {self.place.seconds:g} seconds") from late
        except exceptions.RuntimeEnvSetupError as error:
            raise UserError(f"{self.what}: its environment cannot be had: {_last_line(error)}") from error
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, LimnerError):
                raise error.cause from error
            raise RunError(f"{self.what}: a worker failed: {_last_line(error)}; the last checkpoint stands") from error
        except exceptions.RayError as error:
            raise Lost(f"{self.what}: {TRIES} times in a row the worker ended: {_first_line(error)}") from error

    def share(self, thing: Any) -> Shared:
        """Put a thing where all workers can read it."""
        return Shared(self._ray.put(thing))

    def close(self) -> None:
        """End the workers, whatever they are at."""
        for worker in self._workers:
            self._ray.kill(worker)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].strip()[:MAX_SAID]


def _last_line(error: Exception) -> str:
    """Return what a traceback ends with: the exception itself."""
    return str(error).strip().splitlines()[-1].strip()[:MAX_SAID]
