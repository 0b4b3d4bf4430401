"""The ordinary loss of an SD3 pipeline that is trained from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.core.types import Vocabulary
from limner.models.sd3.build import SD3Size, build


@dataclass(frozen=True, eq=False)
class SD3Pretraining:
    """A `training.pretrain.Fresh` pipeline: the transformer and both text encoders learn together, by flow matching.

        E | v(x_t, t, c) - (noise - x_0) |^2 / D,    x_t = (1 - t) x_0 + t noise

    Source: Esser et al., arXiv:2403.03206, eq. 14 and section 3.1.
    """

    pipeline: Any
    trained: ClassVar[tuple[str, ...]] = ("transformer", "text_encoder", "text_encoder_2")
    axes: ClassVar[int] = 3

    @classmethod
    def build(cls, vocabulary: Vocabulary, latent_channels: int, seed: int) -> SD3Pretraining:
        """Return a pipeline of the bundled bases' size with random weights, that knows the vocabulary."""
        return cls(build(SD3Size(vocabulary, latent_channels=latent_channels), seed))

    def encoded(self, pixels: Float[Tensor, "batch 3 height width"]) -> Any:
        """Return the autoencoder's posterior of pictures in [-1, 1]."""
        return self.pipeline.vae.encode(pixels).latent_dist

    def decoded(self, latents: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch 3 height width"]:
        """Return the autoencoder's pictures, about in [-1, 1]."""
        return self.pipeline.vae.decode(latents).sample

    def normalised(self, latents: Float[Tensor, "pairs *latent"]) -> Float[Tensor, "pairs *latent"]:
        """Return latents of mean 0 and variance 1; the autoencoder keeps both as its shift and scale."""
        mean, std = latents.mean().item(), latents.std().item()
        self.pipeline.vae.register_to_config(scaling_factor=1 / std, shift_factor=mean)
        return (latents - mean) / std

    def loss(
        self,
        denoiser: nn.Module,
        x0: Float[Tensor, "batch channels height width"],
        texts: Sequence[str],
        noise: Float[Tensor, "batch channels height width"],
        t: Float[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """Return the loss at times t in (0, 1); `denoiser` is the transformer, compiled perhaps."""
        context, _, pooled, _ = self.pipeline.encode_prompt(
            texts, None, None, do_classifier_free_guidance=False, max_sequence_length=0
        )
        x_t = torch.lerp(x0, noise, t[:, None, None, None])
        velocity = denoiser(
            hidden_states=x_t, timestep=1000 * t, encoder_hidden_states=context, pooled_projections=pooled
        ).sample
        return (velocity - (noise - x0)).square().mean()
