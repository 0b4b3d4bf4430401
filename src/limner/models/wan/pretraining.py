"""The ordinary loss of a Wan pipeline that is trained from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLWan
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from limner.core.types import Vocabulary
from limner.models.wan import whole
from limner.models.wan.build import WanSize, build


@dataclass(frozen=True, eq=False)
class WanPretraining:
    """A `training.pretrain.Fresh` pipeline: the transformer and the text encoder learn together, by flow matching.

        E | v(x_t, t, c) - (noise - x_0) |^2 / D,    x_t = (1 - t) x_0 + t noise

    Source: Wan, arXiv:2503.20314, section 4.2.2.
    """

    pipeline: Any
    trained: ClassVar[tuple[str, ...]] = ("transformer", "text_encoder")
    axes: ClassVar[int] = 4

    @classmethod
    def build(cls, vocabulary: Vocabulary, latent_channels: int, seed: int) -> WanPretraining:
        """Return a pipeline of the bundled base's size with random weights, that knows the vocabulary.

        Its latents are told apart from the start, see `spread`.
        """
        pipeline = build(WanSize(vocabulary, latent_channels), seed)
        spread(pipeline.vae, seed)
        return cls(pipeline)

    def encoded(self, pixels: Float[Tensor, "batch 3 frames height width"]) -> Any:
        """Return the autoencoder's posterior of clips in [-1, 1]."""
        return whole.encode(self.pipeline.vae, pixels)

    def decoded(self, latents: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch 3 frames height width"]:
        """Return the autoencoder's clips, about in [-1, 1]."""
        return whole.decode(self.pipeline.vae, latents)

    def normalised(self, latents: Float[Tensor, "pairs channels *axes"]) -> Float[Tensor, "pairs channels *axes"]:
        """Return latents of mean 0 and variance 1 in each channel; the autoencoder keeps the statistics."""
        axes = [0, 2, 3, 4]
        mean, std = latents.mean(axes, keepdim=True), latents.std(axes, keepdim=True)
        self.pipeline.vae.register_to_config(latents_mean=mean.flatten().tolist(), latents_std=std.flatten().tolist())
        return (latents - mean) / std

    def loss(
        self,
        denoiser: nn.Module,
        x0: Float[Tensor, "batch channels frames height width"],
        texts: Sequence[str],
        noise: Float[Tensor, "batch channels frames height width"],
        t: Float[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """Return the loss at times t in (0, 1); `denoiser` is the transformer, compiled perhaps."""
        length = self.pipeline.tokenizer.model_max_length
        context, _ = self.pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=length
        )
        x_t = torch.lerp(x0, noise, t[:, None, None, None, None])
        velocity = denoiser(hidden_states=x_t, timestep=1000 * t, encoder_hidden_states=context).sample
        return (velocity - (noise - x0)).square().mean()


@torch.no_grad()
def spread(vae: AutoencoderKLWan, seed: int) -> None:
    """Scale the encoder's last layer so that each channel's means differ by 1 between random clips, around 0.

    With torch's own weights they differ by a few hundredths, and by more between the places of one clip: the decoder
    learns what all clips have in common first, and leaves it late, after hundreds of steps for shapes on a ground.

    Source: data-dependent initialisation, Salimans and Kingma, arXiv:1602.07868, section 3; here on clips of coarse
    noise, so that none of the world's are needed.
    """
    coarse = 2 * torch.rand(32, 3, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) - 1
    means = whole.encode(vae, functional.interpolate(coarse, size=(13, 32, 32), mode="trilinear")).mean
    center, scale = means.mean((0, 2, 3, 4)), (means - means.mean(0)).std((0, 2, 3, 4))
    last, kept = vae.quant_conv, slice(len(scale))
    last.weight[kept] /= scale[:, None, None, None, None]
    last.bias[kept] = (last.bias[kept] - center) / scale
