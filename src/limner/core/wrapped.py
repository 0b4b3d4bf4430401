"""A denoiser that is another one in all but its prediction: guidance around it, or the weights of a role inside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.media import Media
from limner.core.protocols import Denoiser
from limner.core.types import Condition, LatentSpec, Prompt
from limner.diffusion.prediction import PredictionKind
from limner.diffusion.schedule import Schedule
from limner.diffusion.timesteps import Grid


@dataclass(frozen=True)
class Wrapped:
    """All of `model` but its prediction, which `around` makes from (x, t, condition, prompt_index)."""

    model: Denoiser
    around: Callable[[Tensor, Tensor, Condition, Tensor], Tensor]

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

    def decode(self, sample: Float[Tensor, "batch *latent"]) -> Media:
        """Decode as the wrapped model does."""
        return self.model.decode(sample)

    def latent(self) -> LatentSpec:
        """The wrapped model's."""
        return self.model.latent()

    def times(self, steps: int, grid: Grid = "own") -> Float[Tensor, " points"]:
        """The wrapped model's."""
        return self.model.times(steps, grid)

    def predict(
        self,
        x: Float[Tensor, "batch *latent"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch *latent"]:
        """Return what `around` makes of it."""
        return self.around(x, t, condition, prompt_index)
