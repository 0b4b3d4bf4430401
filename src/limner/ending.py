"""How a run ends that cannot go on: with one line that says why, what to do, and what stands of it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from limner.claim import CHECKPOINTS, FREE, folder_of
from limner.core.errors import BrokenReward, OutOfMemory, RunError
from limner.engine import checkpoint
from limner.machine.relief import relief
from limner.report.file import no_room, write_text
from limner.report.metrics import Metrics
from limner.report.progress import Progress
from limner.training.config import RunConfig

TRACEBACK = "traceback.txt"
"""Where a run folder says how the reward failed that ended the run."""


@contextmanager
def closing(folder: Path, progress: Progress, metrics: Metrics) -> Iterator[None]:
    """Leave the terminal and the files in order, however it ends; a full disk stops a run, and is no bug.

    Nor is a reward that raises: its traceback is kept in the folder.
    """
    try:
        try:
            yield
        finally:
            progress.close()
            metrics.close()
    except BrokenReward as error:
        write_text(folder / TRACEBACK, "".join(traceback.format_exception(error)))
        raise BrokenReward(
            f"{error} ({folder / TRACEBACK} has the traceback); the last checkpoint stands: mend the reward, and go on "
            "with --resume --accept-changes"
        ) from error
    except (OSError, SafetensorError) as error:
        if not no_room(error):
            raise
        raise RunError(f"{error}; the last checkpoint stands: make room, and go on with --resume") from error


@contextmanager
def relieved(config: RunConfig) -> Iterator[None]:
    """Say of memory that could not be had what would take less, and, where a checkpoint stands, to go on from there."""
    try:
        yield
    except OutOfMemory as error:
        stands = checkpoint.latest(folder_of(config) / CHECKPOINTS) is not None
        said = relief(config, error.phase, FREE if stands else None)
        remedy = f"lower it with {said}" if said else "take a smaller model, or a larger machine"
        if stands:
            remedy += "; the last checkpoint stands: go on with --resume"
        raise OutOfMemory(error.phase, error.asked, remedy) from error
