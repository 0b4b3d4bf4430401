"""Who takes part in a run: here one process with one device, the seam at which data-parallel executors come in."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Single:
    """One process, one device."""

    device: torch.device

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked, so that a clock tells the truth."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
