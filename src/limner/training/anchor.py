"""A data anchor: the ordinary loss on pictures with prompts, added to every optimizer step of any algorithm.

    L = L_algorithm + weight E |v(x_t, t, c) - (noise - x0)|^2 / D,       x0, c from the data, t logit-normal

It bounds how much of the data the model forgets: a forward KL to the data, where the penalties of the algorithms are
reverse ones to the base. Source: DDRL, arXiv:2512.04332.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Renoising
from limner.core.protocols import ForwardProcess
from limner.core.rng import Rng
from limner.objectives.matching import velocity_mse
from limner.training.source import Source, Studio

ONCE = Renoising(num_times=1, times="logit_normal")


@dataclass(frozen=True)
class Anchor:
    """`batch` samples of a source that gives them, at one time each, in every optimizer step."""

    source: Source
    weight: float
    batch: int

    def losses(self, studio: Studio, policy: ForwardProcess, rng: Rng) -> Iterator[Float[Tensor, ""]]:
        """Yield this process's shares of weight x the mean loss over `batch` samples, drawn by `rng`."""
        data = self.source.scored(studio, 0, self.batch, rng, lambda name: nullcontext()).rollout
        for pack in policy.renoise(data, torch.arange(len(data)), ONCE, rng, studio.micro_batch):
            error = velocity_mse(policy.restore(pack, data.condition).velocity, pack.velocity)
            yield self.weight * error.sum() / self.batch
