"""Who takes part in a run: here one process with one device, the seam at which data-parallel executors come in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Single:
    """One process, one device: sums over ranks are the terms themselves, and nobody is waited for."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return the sum of `x` over all ranks."""
        return x

    def barrier(self) -> None:
        """Wait until every rank is here."""
