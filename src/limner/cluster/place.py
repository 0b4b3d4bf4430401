"""What workers are given, and the cluster that they run in."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from limner.core.errors import UserError
from limner.core.settings import Natural, NotNegative, Positive, settings


@settings
class Place:
    """How many workers there are, and what each has of the cluster.

    Ray counts what it hands out and bounds nothing: a worker that has half a GPU is to be content with half its memory.
    """

    workers: Natural = 1
    """Processes, each with a copy of what is asked."""
    cpus: NotNegative = 1.0
    """Cores of each."""
    gpus: NotNegative = 0.0
    """GPUs of each; a part of one, as 0.5, is shared."""
    resource: str = ""
    """What it also needs one of: a name of `ray start --resources '{"NAME": 8}'`, which says on which machines."""
    python: str = ""
    """The Python that it runs, as judges/bin/python, of an environment of its own that has limner and the same Ray
    beside whatever else it needs; empty: this one."""
    seconds: Positive = 1800.0
    """How long an answer may take, the first one too; a worker that takes longer is ended, and started anew."""

    def given(self) -> dict[str, float]:
        """Return what each worker takes of the cluster, by Ray's names."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus} | ({self.resource: 1.0} if self.resource else {})
        return {name: amount for name, amount in wanted.items() if amount}

    def options(self) -> dict[str, Any]:
        """Return how Ray is asked for such a worker: one that ends is started anew, as often as that is needed."""
        python = Path(self.python).expanduser().absolute()  # not resolved: a link is what tells an environment
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "resources": {self.resource: 1} if self.resource else {},
            "runtime_env": {"py_executable": str(python)} if self.python else {},
            "max_restarts": -1,
        }


def join(what: str) -> Any:
    """Return Ray, in the cluster that RAY_ADDRESS names, or that was started here, or else in one that begins now.

    Raises UserError, in the name of `what` asks for it, if Ray is not there or the cluster does not answer.
    """
    try:
        import ray  # here, because it takes seconds, and is an extra
    except ModuleNotFoundError as error:
        raise UserError(f"{what} needs ray: pip install 'limner[ray]'") from error
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else a cluster that begins now reports its use
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"{what}: no Ray cluster answers ({error}); look at RAY_ADDRESS, and ray status") from error
    return ray


def require(place: Place, ray: Any, what: str) -> None:
    """Raise UserError if the cluster, all of it, has not enough for one worker, or there is no such Python."""
    if place.python and not Path(place.python).expanduser().is_file():
        raise UserError(f"{what}: there is no Python {place.python}: name one that all machines of the cluster have")
    there = ray.cluster_resources()
    for name, amount in place.given().items():
        if there.get(name, 0) < amount:
            raise UserError(
                f"{what}: a worker takes {amount:g} {name} of the Ray cluster, which has {there.get(name, 0):g}: ask "
                "for less, or start a node that has it"
            )
