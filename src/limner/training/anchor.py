"""A data anchor: the ordinary loss on pictures with prompts, added to every optimizer step of any algorithm.

    L = L_algorithm + weight E |v(x_t, t, c) - (noise - x0)|^2 / D,       x0, c from the data, t logit-normal

It bounds how much of the data the model forgets: a forward KL to the data, where the penalties of the algorithms are
reverse ones to the base. Source: DDRL, arXiv:2512.04332.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.protocols import ForwardProcess
from limner.core.rng import Rng
from limner.core.types import Prompt, Renoising, Rollout
from limner.objectives.matching import velocity_mse
from limner.rollout.collect import EncodeCache

LOGIT_NORMAL = Renoising(1, "logit_normal")

Pairs = tuple[Float[Tensor, "pairs *latent"], Sequence[Prompt]]


@dataclass(frozen=True, eq=False)
class Anchor:
    """`load` returns latents and their prompts; it is called when the first loss is needed."""

    load: Callable[[], Pairs]
    weight: float
    batch: int

    @cached_property
    def pairs(self) -> Pairs:
        """The data, in memory from its first use on."""
        return self.load()

    def losses(
        self, policy: ForwardProcess, cache: EncodeCache, rng: Rng, micro_batch: int
    ) -> Iterator[Float[Tensor, ""]]:
        """Yield the shares of weight x the mean loss over `batch` pairs, drawn by `rng`."""
        latents, prompts = self.pairs
        rows = torch.randint(len(prompts), (self.batch,), generator=rng.child("rows").generator())
        chosen, place = [prompts[i] for i in rows.tolist()], torch.arange(self.batch)
        sample = latents[rows]
        drawn = Rollout(chosen, place, place, cache.condition(chosen), sample, torch.zeros(1), None, place, 0)
        for pack in policy.renoise(drawn, place, LOGIT_NORMAL, rng, micro_batch):
            error = velocity_mse(policy.restore(pack, drawn.condition).velocity, pack.velocity)
            yield self.weight * error.sum() / self.batch
