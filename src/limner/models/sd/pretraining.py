"""The ordinary loss of a Stable Diffusion pipeline that is trained from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limner.core.types import Vocabulary
from limner.models.sd.build import SDSize, build


@dataclass(frozen=True, eq=False)
class SDPretraining:
    """A `training.pretrain.Fresh` pipeline: the UNet and the text encoder learn together to predict the noise.

        E | e(x_k, k, c) - noise |^2 / (D abar_k),    x_k = sqrt(abar_k) x_0 + sqrt(1 - abar_k) noise

    at level k of T, the one that t T falls into. The division by abar_k makes it the loss of the v-prediction, which
    does not fade where noise hides the picture, and there the caption decides.
    Source: Ho et al., arXiv:2006.11239, eq. 14; the weight: Salimans and Ho, arXiv:2202.00512, section 4, appendix D.
    """

    pipeline: Any
    trained: ClassVar[tuple[str, ...]] = ("unet", "text_encoder")
    axes: ClassVar[int] = 3

    @classmethod
    def build(cls, vocabulary: Vocabulary, latent_channels: int, seed: int) -> SDPretraining:
        """Return a pipeline of the bundled bases' size with random weights, that knows the vocabulary."""
        return cls(build(SDSize(vocabulary, latent_channels=latent_channels), seed))

    def encoded(self, pixels: Float[Tensor, "batch 3 height width"]) -> Any:
        """Return the autoencoder's posterior of pictures in [-1, 1]."""
        return self.pipeline.vae.encode(pixels).latent_dist

    def decoded(self, latents: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch 3 height width"]:
        """Return the autoencoder's pictures, about in [-1, 1]."""
        return self.pipeline.vae.decode(latents).sample

    def normalised(self, latents: Float[Tensor, "pairs *latent"]) -> Float[Tensor, "pairs *latent"]:
        """Return latents of variance 1; the autoencoder keeps their scale, for these pipelines do not shift."""
        std = latents.std().item()
        self.pipeline.vae.register_to_config(scaling_factor=1 / std, shift_factor=0.0)
        return latents / std

    def loss(
        self,
        denoiser: nn.Module,
        x0: Float[Tensor, "batch channels height width"],
        texts: Sequence[str],
        noise: Float[Tensor, "batch channels height width"],
        t: Float[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """Return the loss at times t in (0, 1); `denoiser` is the UNet, compiled perhaps."""
        context, _ = self.pipeline.encode_prompt(texts, None, 1, False)
        level = (t * len(self.pipeline.scheduler.alphas_cumprod)).long()
        noisy = self.pipeline.scheduler.add_noise(x0, noise, level)
        predicted = denoiser(noisy, level, encoder_hidden_states=context).sample
        weight = 1 / self.pipeline.scheduler.alphas_cumprod[level]
        return ((predicted - noise).square().mean((1, 2, 3)) * weight).mean()
