"""Published Mochi checkpoints: the first, of the configurations that diffusers has by default."""

from __future__ import annotations

from limner.models.published import T5_XXL, Part, Published

PUBLISHED = {
    "mochi": Published(
        hub="genmo/mochi-1-preview",
        licence="Apache-2.0",
        prediction="velocity",
        network=Part("MochiTransformer3DModel", 10_027_677_744),
        autoencoder=Part("AutoencoderKLMochi", 459_748_611),
        encoders=(T5_XXL,),
        latent=(12, 4, 60, 106),
    ),
}
