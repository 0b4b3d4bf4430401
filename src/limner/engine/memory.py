"""What there is of memory, and what a run used of it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")
STATUS = Path("/proc/self/status")


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak in MiB: tensors on a cuda device; on any other device, the resident set of this process.

    Linux's `ru_maxrss` begins with what the process that started this one took, so that it is not asked there.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if STATUS.is_file():
        (line,) = (each for each in STATUS.read_text().splitlines() if each.startswith("VmHWM:"))
        return float(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def available_memory_mib() -> float:
    """Return what this process may still take of the machine's memory, in MiB, or of its container's."""
    free, limit = float(psutil.virtual_memory().available), _limit()
    if limit is not None:
        free = min(free, limit - float((CGROUP / "memory.current").read_text()))
    return free / 2**20


def total_memory_mib(device: torch.device) -> float:
    """Return all that there is in MiB, in use or not: of a cuda device, or else of the machine or its container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1] / 2**20
    total, limit = float(psutil.virtual_memory().total), _limit()
    return (total if limit is None else min(total, limit)) / 2**20


def _limit() -> float | None:
    """Return the bytes that this container may take, or None if there is no such limit."""
    file = CGROUP / "memory.max"
    most = file.read_text().strip() if file.is_file() else "max"
    return None if most == "max" else float(most)
