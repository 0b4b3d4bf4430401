"""A GAN that is trained from nothing, over the latents and the words of a base that stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from limner.core.types import Vocabulary
from limner.models.gan.adapter import conditioned
from limner.models.gan.build import GANParts, build, write_parts
from limner.models.gan.networks import Discriminator, Eye, LatentGenerator


@dataclass(frozen=True, eq=False)
class GANPretraining:
    """A `training.pretrain_gan.FreshGAN`: generator and discriminator learn; autoencoder and text encoder stay."""

    parts: GANParts
    encoder: Eye
    """Mean and log of the variance of the z of latents; it learns with the generator, and is not kept."""

    @classmethod
    def build(cls, vocabulary: Vocabulary, start: Path, width: int, seed: int) -> GANPretraining:
        """Return random networks `width` wide; what encodes pictures and words is that of the pipeline `start`."""
        tokenizer = CLIPTokenizer.from_pretrained(start / "tokenizer")
        encoder = CLIPTextModelWithProjection.from_pretrained(start / "text_encoder", dtype=torch.float32)
        autoencoder = AutoencoderKL.from_pretrained(start, subfolder="vae", torch_dtype=torch.float32)
        parts = build(tokenizer, encoder.eval(), autoencoder.eval(), width, seed)
        config = parts.discriminator.config
        with torch.random.fork_rng():
            torch.manual_seed(seed + 1)
            shape = config.latent_channels, config.latent_size, width, config.layers
            return cls(parts, Eye(*shape, 2 * parts.generator.config.noise))

    @property
    def generator(self) -> LatentGenerator:
        """What makes latents of noise and captions."""
        return self.parts.generator

    @property
    def discriminator(self) -> Discriminator:
        """What tells them from those of pictures."""
        return self.parts.discriminator

    @property
    def noise(self) -> int:
        """Numbers in one z."""
        return int(self.generator.config.noise)

    def latents(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch *latent"]:
        """Return what the generator is to make, of pictures in [-1, 1]."""
        config = self.parts.vae.config
        means = self.parts.vae.encode(pixels).latent_dist.mean
        return (means - (config.shift_factor or 0.0)) * config.scaling_factor

    def conditions(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return what both networks are given of captions, a row each."""
        return conditioned(self.parts, texts)

    def save(self, folder: Path) -> None:
        """Write the parts at half precision, but for the text encoder, which is loaded as it is stored."""
        for part in (self.parts.generator, self.parts.discriminator, self.parts.start, self.parts.vae):
            part.half()
        write_parts(folder, self.parts)
