"""What there is of memory, and what a run used of it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil
import torch


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak in MiB: tensors on a cuda device; on any other device, the resident set of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def available_memory_mib() -> float:
    """Return what this process may still take of the machine's memory, in MiB, or of its container's."""
    free = float(psutil.virtual_memory().available)
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and (most := limit.read_text().strip()) != "max":
        free = min(free, float(most) - float(used.read_text()))
    return free / 2**20
