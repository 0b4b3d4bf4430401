"""Parts of a model that only encoding needs, and the memory of an accelerator that they leave to the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Encoding(Protocol):
    """A model that encodes prompts by networks of their own; where they are, `encode` works."""

    @property
    def encoders(self) -> Sequence[nn.Module]: ...


@contextmanager
def visiting(encoders: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Have `encoders` on `device` inside, and afterwards on the CPU: text encoders may be larger than what is trained.

    They stay where they are unless `device` has a memory of its own (cuda).
    """
    if device.type != "cuda":
        yield
        return
    try:
        for encoder in encoders:
            encoder.to(device)
        yield
    finally:
        for encoder in encoders:
            encoder.to("cpu")
