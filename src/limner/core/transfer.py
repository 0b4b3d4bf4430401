"""Copies between an accelerator and the machine's memory that neither waits for.

An accelerator carries out what it is told in order. A copy from pinned pages is one more of that, and whoever asked for
it goes on; a copy to pinned pages is there once what was told until then is done, which an event tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Write = tuple[Tensor, tuple[Tensor, ...], Tensor]
"""Where, at which index, and what."""


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on `device`; to a card it goes by pinned pages, and nobody waits for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Behind:
    """Writes what a card computes to the machine's memory one step behind, while it computes the next."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._waiting: tuple[Any, list[Write]] | None = None

    def write(self, writes: Iterable[Write]) -> None:
        """Write what was given before, and these now, or, where they are on their way from the card, later.

        What is on its way is a copy that was asked for with `non_blocking`, which torch puts into pinned pages.
        """
        writes = list(writes)
        self.settle()
        if self._device.type == "cuda" and any(kept.device.type == "cpu" for kept, _, _ in writes):
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self._device))
            self._waiting = event, writes
        else:
            _write(writes)

    def settle(self) -> None:
        """Wait for what is on its way, and write it."""
        if self._waiting is not None:
            event, writes = self._waiting
            event.synchronize()
            _write(writes)
            self._waiting = None


def _write(writes: Iterable[Write]) -> None:
    for kept, place, now in writes:
        kept[place] = now
