"""Classifier-free guidance as a denoiser around a denoiser, so that a recipe or an algorithm can choose it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.protocols import Denoiser
from limner.core.tree import leaves
from limner.core.types import Condition, Images, LatentSpec, Prompt
from limner.diffusion.prediction import PredictionKind
from limner.diffusion.schedule import Schedule


@dataclass(frozen=True)
class Guided:
    """Predict u + scale (c - u), with c for the prompt and u for the empty prompt: two evaluations in one pass.

    scale = 1 is the prompt alone (then leave this wrapper out: it would pay for u). Gradients flow through both.
    Source: Ho and Salimans, arXiv:2207.12598, eq. 6 with scale = 1 + w.
    """

    model: Denoiser
    scale: float

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The wrapped model's."""
        return self.model.networks

    @property
    def schedule(self) -> Schedule:
        """The wrapped model's."""
        return self.model.schedule

    @property
    def prediction(self) -> PredictionKind:
        """The wrapped model's: guidance is linear, and so the same in any of them."""
        return self.model.prediction

    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Encode as the wrapped model does; the empty prompt is its last row."""
        return self.model.encode(prompts)

    def decode(self, sample: Float[Tensor, "batch *latent"]) -> Images:
        """Decode as the wrapped model does."""
        return self.model.decode(sample)

    def latent(self) -> LatentSpec:
        """The wrapped model's."""
        return self.model.latent()

    def times(self, steps: int) -> Float[Tensor, " points"]:
        """The wrapped model's."""
        return self.model.times(steps)

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
