"""Which prompts an iteration trains on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.rng import Rng


@dataclass(frozen=True)
class PromptSampler:
    """Draw `per_step` of `num_prompts` prompts an iteration: a fresh permutation each epoch, cut into pieces.

    It has no state: what step 17 draws depends on (seed, 17) alone, so a resumed run needs only the step. A piece may
    reach over the end of an epoch, and then hold one prompt twice.
    """

    num_prompts: int
    per_step: int
    seed: int

    def __post_init__(self) -> None:
        if self.num_prompts < 1 or self.per_step < 1:
            raise UserError(
                f"prompt sampler: needs at least 1 prompt and 1 a step, got {self.num_prompts} prompts "
                f"and {self.per_step} a step"
            )

    def indices(self, step: int) -> Int[Tensor, " per_step"]:
        """Return the prompts of iteration `step` (from 0)."""
        position = torch.arange(step * self.per_step, (step + 1) * self.per_step)
        epoch, place = position // self.num_prompts, position % self.num_prompts
        orders = {e: self._order(e) for e in epoch.unique().tolist()}
        return torch.stack([orders[e][i] for e, i in zip(epoch.tolist(), place.tolist(), strict=True)])

    def _order(self, epoch: int) -> Int[Tensor, " num_prompts"]:
        generator = Rng((self.seed, "prompts", epoch)).generator()
        return torch.randperm(self.num_prompts, generator=generator)
