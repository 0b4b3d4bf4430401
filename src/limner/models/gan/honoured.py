"""What the adapter of a GAN honours of its parts; those that limner has itself compute by all that they say."""

from __future__ import annotations

from limner.models.gan.build import GANParts
from limner.models.honoured import AUTOENCODER, require_equal


def require_honoured(parts: GANParts) -> None:
    """Raise UserError for parts that do not fit each other, or of which something is not honoured."""
    AUTOENCODER.require("vae", parts.vae)
    generator, discriminator, start = (part.config for part in parts[3:])
    text = parts.text_encoder.config.projection_dim
    for name, config in (("generator", generator), ("discriminator", discriminator), ("start", start)):
        require_equal(f"{name} has text_width", config.text_width, "the text encoder's projection_dim is", text)
    width = parts.text_encoder.config.hidden_size
    require_equal("the text encoder has hidden_size", width, "its projection_dim is", text)
    require_equal("start has noise", start.noise, "the generator's is", generator.noise)
    length = parts.tokenizer.model_max_length
    require_equal("discriminator has text_length", discriminator.text_length, "the tokenizer's is", length)
    for name, config in (("generator", generator), ("discriminator", discriminator)):
        channels = parts.vae.config.latent_channels
        require_equal(f"{name} has latent_channels", config.latent_channels, "the vae's is", channels)
    require_equal(
        "discriminator has latent_size", discriminator.latent_size, "the generator's is", generator.latent_size
    )
