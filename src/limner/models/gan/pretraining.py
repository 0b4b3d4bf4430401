"""A GAN that is made of a base that stands: its generator begins as the base's network, asked once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffusers import FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from limner.core.media import Images
from limner.core.types import Vocabulary
from limner.models.gan.adapter import GAN
from limner.models.gan.build import beside, write
from limner.models.gan.networks import Discriminator
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings


@dataclass(frozen=True, eq=False)
class GANPretraining:
    """A `training.pretrain_gan.FreshGAN`: the transformer and the discriminator learn; all else stays the base's."""

    teacher: SD3
    """The base, whose samples the generator learns from."""
    model: GAN

    @classmethod
    def build(cls, vocabulary: Vocabulary, start: Path, width: int, seed: int) -> GANPretraining:
        """Return a GAN made of the Stable Diffusion 3 pipeline `start`, with a discriminator `width` wide."""
        settings = SD3Settings(max_sequence_length=0)
        teacher, pipeline = SD3.load(start, settings), SD3.load(start, settings).pipeline
        pipeline.register_modules(scheduler=FlowMatchEulerDiscreteScheduler())  # in one step, from t = 1 to 0
        return cls(teacher, GAN.wrap(pipeline, beside(pipeline, pipeline.tokenizer.model_max_length, width, seed)))

    @property
    def discriminator(self) -> Discriminator:
        """What tells samples from data."""
        return self.model.beside.discriminator

    def latents(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch *latent"]:
        """Return the latents of pictures in [0, 1]."""
        return self.model.encode_media(Images(pixels))

    def save(self, folder: Path) -> None:
        """Write the parts at half precision, but for the text encoders, which are loaded as they are stored."""
        pipeline, parts = self.model.sd3.pipeline, self.model.beside
        for part in (pipeline.transformer, pipeline.vae, *parts):
            part.half()
        write(folder, pipeline, parts)
