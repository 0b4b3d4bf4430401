"""Classifier-free guidance as a denoiser around a denoiser, so that a recipe or an algorithm can choose it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.tree import leaves
from limner.core.types import Condition
from limner.core.wrapped import Wrapped


@dataclass(frozen=True)
class Guided(Wrapped):
    """Predict u + scale (c - u), with c for the prompt and u for the empty prompt: two evaluations in one pass.

    scale = 1 is the prompt alone (then leave this wrapper out: it would pay for u). Gradients flow through both.
    Guidance is linear, and so the same in any prediction.
    Source: Ho and Salimans, arXiv:2207.12598, eq. 6 with scale = 1 + w.
    """

    scale: float

    def predict(
        self,
        x: Float[Tensor, "batch *latent"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch *latent"]:
        """Return the guided prediction."""
        empty = torch.full_like(prompt_index, next(leaves(condition)).shape[0] - 1)
        both = self.model.predict(torch.cat([x, x]), torch.cat([t, t]), condition, torch.cat([prompt_index, empty]))
        with_prompt, without = both.chunk(2)
        return without + self.scale * (with_prompt - without)
