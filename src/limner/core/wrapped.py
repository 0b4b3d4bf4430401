"""A denoiser that is another one in all but its prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from limner.core.protocols import Denoiser
from limner.core.types import Condition, Images, LatentSpec, Prompt
from limner.diffusion.prediction import PredictionKind
from limner.diffusion.schedule import Schedule


@dataclass(frozen=True)
class Wrapped:
    """All of `model` but `predict`, which the heir writes: guidance around it, or the weights of a role inside it."""

    model: Denoiser

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
        """The wrapped model's."""
        return self.model.prediction

    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Encode as the wrapped model does."""
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
