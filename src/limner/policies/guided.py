"""Classifier-free guidance as a denoiser around a denoiser, so that a recipe or an algorithm can choose it."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.protocols import Denoiser
from limner.core.tree import leaves
from limner.core.types import Condition
from limner.core.wrapped import Wrapped


def guided(model: Denoiser, scale: float) -> Wrapped:
    """Return the model that predicts u + scale (c - u), c for the prompt, u for the empty one, both in one pass.

    scale = 1 is the prompt alone (then leave this out: it would pay for u). Gradients flow through both. Guidance is
    linear, and so the same in any prediction.
    Source: Ho and Salimans, arXiv:2207.12598, eq. 6 with scale = 1 + w.
    """

    def predict(x: Tensor, t: Tensor, condition: Condition, prompt_index: Tensor) -> Tensor:
        empty = torch.full_like(prompt_index, next(leaves(condition)).shape[0] - 1)
        both = model.predict(torch.cat([x, x]), torch.cat([t, t]), condition, torch.cat([prompt_index, empty]))
        with_prompt, without = both.chunk(2)
        return without + scale * (with_prompt - without)

    return Wrapped(model, predict)
