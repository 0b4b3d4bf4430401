"""Classifier-free guidance: what a denoiser predicts, led away from what it predicts for the empty prompt."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.protocols import Denoiser
from limner.core.tree import leaves
from limner.core.types import Condition


def guided(
    model: Denoiser,
    scale: float,
    x: Float[Tensor, "batch *latent"],
    t: Float[Tensor, " batch"],
    condition: Condition,
    prompt_index: Int[Tensor, " batch"],
) -> Float[Tensor, "batch *latent"]:
    """Return the native prediction u + scale (c - u), c for the prompt, u for the empty one, both in one pass.

    scale = 1 is the prompt alone, and u is not paid for. Gradients flow through both. Guidance is linear, and so the
    same in any prediction.
    Source: Ho and Salimans, arXiv:2207.12598, eq. 6 with scale = 1 + w.
    """
    if scale == 1:
        return model.predict(x, t, condition, prompt_index)
    empty = torch.full_like(prompt_index, next(leaves(condition)).shape[0] - 1)
    both = model.predict(torch.cat([x, x]), torch.cat([t, t]), condition, torch.cat([prompt_index, empty]))
    with_prompt, without = both.chunk(2)
    return without + scale * (with_prompt - without)
