"""A data anchor: the ordinary loss on pictures with prompts, added to every optimizer step of any algorithm.

    L = L_algorithm + weight E |v(x_t, t, c) - (noise - x0)|^2 / D,       x0, c from the data, t logit-normal

It bounds how much of the data the model forgets: a forward KL to the data, where the penalties of the algorithms are
reverse ones to the base. Source: DDRL, arXiv:2512.04332.

A student of few steps is no likelihood model of data, and that loss would undo it. Its anchor is what it was made by:

    L = L_algorithm + weight E |f(x_t, t, c) - x0|^2 / D,       x_t, t, x0, c the pairs of its teacher

Source: DMDR, arXiv:2511.13649, where another loss of distillation stands beside the reward's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Renoising
from limner.core.protocols import ForwardProcess
from limner.core.rng import Rng
from limner.core.tree import select
from limner.core.types import Prompt
from limner.objectives.matching import velocity_mse
from limner.policies.denoising import Denoising
from limner.training.distill import Pairs, errors
from limner.training.source import Source, Studio

ONCE = Renoising(num_times=1, times="logit_normal")


class Anchor(Protocol):
    """What is added to the loss of every optimizer step."""

    def losses(self, studio: Studio, policy: ForwardProcess, rng: Rng) -> Iterator[Float[Tensor, ""]]:
        """Yield this process's shares of the weighted loss, on what `rng` draws."""
        ...


@dataclass(frozen=True)
class OnData:
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


@dataclass(frozen=True, eq=False)
class OnTeacher:
    """`batch` of a teacher's pairs, with their prompts, in every optimizer step of its student."""

    pairs: Pairs
    prompts: Sequence[Prompt]
    weight: float
    batch: int

    def losses(self, studio: Studio, policy: ForwardProcess, rng: Rng) -> Iterator[Float[Tensor, ""]]:
        """Yield this process's shares of weight x the mean error over `batch` pairs, drawn by `rng`."""
        model = cast(Denoising, policy).model
        drawn = torch.randint(len(self.pairs.x), (self.batch,), generator=rng.generator())
        mine = drawn[torch.tensor(list(studio.team.share(self.batch)), dtype=torch.long)]
        condition = studio.cache.condition(self.prompts)
        for rows in mine.split(studio.micro_batch):
            yield self.weight * errors(model, select(self.pairs, rows), condition).sum() / self.batch
