"""Published Z-Image checkpoints."""

from __future__ import annotations

from limner.models.published import QWEN3_4B, Part, Published, autoencoder

PUBLISHED = {
    "z_image_turbo": Published(
        hub="Tongyi-MAI/Z-Image-Turbo",
        licence="Apache-2.0",
        prediction="velocity",
        network=Part("ZImageTransformer2DModel", 6_154_908_736),
        autoencoder=autoencoder(16, quant=False),
        encoders=(QWEN3_4B,),
        latent=(16, 128, 128),
        recipe="z_image_turbo",
    ),
}
