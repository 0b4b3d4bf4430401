"""Memory that is not there: which errors say so, what was asked for, and in which part of a run.

torch says it in a RuntimeError, on a card in one of a class of its own; NumPy and Python in a MemoryError, and the
system in an OSError.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from limner.core.errors import OutOfMemory, message

SHORT = re.compile("out of memory|n't allocate memory|not enough memory|STATUS_ALLOC_FAILED", re.IGNORECASE)
"""What torch, CUDA and their libraries say in errors of no class of their own."""
ASKED = re.compile(r"(?:tried|unable) to allocate ([\d.]+) ?([KMGT]iB|bytes|B)\b", re.IGNORECASE)
FREE = re.compile(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free")
MAX_SAID = 120
"""Characters of an error that does not say how much was asked for."""


def is_short(error: BaseException) -> bool:
    """Tell whether an error is that memory could not be had, of the machine or of a card."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or (isinstance(error, RuntimeError) and SHORT.search(str(error)) is not None)


def asked(error: BaseException) -> str:
    """Return what of memory was asked for, and of a card what was free; else what the error says."""
    said = message(error)
    if (found := ASKED.search(said)) is None:
        return said[:MAX_SAID]
    number, unit = found.groups()
    size = f"{number} {unit}" if unit.endswith("iB") else f"{float(number) / 2**30:,.2f} GiB"
    there = FREE.search(said)
    return f"{size} asked for" + (f", {there[2]} of {there[1]} free" if there else "")


@contextmanager
def needing(phase: str) -> Iterator[None]:
    """Raise OutOfMemory where memory cannot be had inside, and say that it was in this phase.

    Phases stand in one another: "decode of evaluation".
    """
    try:
        yield
    except OutOfMemory as error:
        if error.phase.startswith(phase):  # a judge has its name in it
            raise
        raise OutOfMemory(f"{error.phase} of {phase}", error.asked) from error
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_short(error):
            raise
        raise OutOfMemory(phase, asked(error)) from error
