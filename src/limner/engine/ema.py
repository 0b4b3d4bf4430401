"""An exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from limner.engine.shards import cut_like, own


class Ema:
    """average <- d average + (1 - d) parameters, with d = min(decay, (1 + n) / (10 + n)) after n earlier updates.

    The cap lets the average forget its start in short runs, as in TensorFlow's ExponentialMovingAverage(num_updates).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.num_updates = parameters, decay, 0
        self.average = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def update(self) -> None:
        """Take the present parameters into the average."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)
        self.num_updates += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the average in the parameters' place; they come back bit by bit."""
        parameters = [own(parameter) for parameter in self.parameters.values()]
        trained = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            torch._foreach_copy_(parameters, [own(average) for average in self.average.values()])
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(parameters, trained)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps (tensors not copied)."""
        return {"num_updates": self.num_updates, "average": self.average}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` returned."""
        self.num_updates = state["num_updates"]
        for name, tensor in self.average.items():
            tensor.copy_(cut_like(state["average"][name], tensor))
