"""Our sampler from given noise, step by step: what plain diffusers must draw too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.protocols import Adapter
from limner.core.types import Prompt
from limner.diffusion.dynamics import DDIM, EulerODE
from limner.policies.denoising import Sampler


def walk(
    model: Adapter, dynamics: EulerODE | DDIM, steps: int, texts: Sequence[str], x: Float[Tensor, "batch *latent"]
) -> Float[Tensor, "batch 3 height width"]:
    """Return the pictures of these texts that begin at the noise `x`, by the mean of each step."""
    return walk_frames(model, dynamics, steps, texts, x)[:, 0]


@torch.no_grad()
def walk_frames(
    model: Adapter, dynamics: EulerODE | DDIM, steps: int, texts: Sequence[str], x: Float[Tensor, "batch *latent"]
) -> Float[Tensor, "batch frames 3 height width"]:
    """Return the clips of these texts, likewise."""
    condition, times, index = model.encode([Prompt(t) for t in texts]), model.times(steps), torch.arange(len(texts))
    policy, nobody = Sampler(dynamics, steps).policy(model), torch.zeros(len(texts), dtype=torch.bool)
    for t, s in zip(times[:-1], times[1:], strict=True):
        x = policy.step(x, (t.expand(len(texts)), s.expand(len(texts))), condition, index, nobody)[1].mean
    return model.decode(x).frames()
