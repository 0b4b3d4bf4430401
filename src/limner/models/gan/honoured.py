"""What the adapter of a GAN honours of what stands beside its pipeline, which is honoured as any is of its kind."""

from __future__ import annotations

from typing import Any

from limner.models.gan.build import Beside
from limner.models.honoured import require_equal


def require_fitting(pipeline: Any, beside: Beside, length: int) -> None:
    """Raise UserError for parts that do not fit the pipeline, whose texts have `length` tokens."""
    network, vae = pipeline.transformer.config, pipeline.vae.config
    discriminator, start = (part.config for part in beside)
    require_equal(
        "discriminator has text_width",
        discriminator.text_width,
        "the transformer's joint_attention_dim is",
        network.joint_attention_dim,
    )
    require_equal("discriminator has text_length", discriminator.text_length, "texts have", length)
    require_equal("start has text_width", start.text_width, "the transformer's is", network.pooled_projection_dim)
    for name, config in (("discriminator", discriminator), ("start", start)):
        require_equal(f"{name} has latent_channels", config.latent_channels, "the vae's is", vae.latent_channels)
        require_equal(f"{name} has latent_size", config.latent_size, "the transformer's is", network.sample_size)
