"""Published Chroma checkpoints, whose network is the one of diffusers' defaults."""

from __future__ import annotations

from limner.models.published import T5_XXL, Part, Published, autoencoder

PUBLISHED = {
    "chroma1_hd": Published(
        hub="lodestones/Chroma1-HD",
        licence="Apache-2.0",
        prediction="velocity",
        network=Part("ChromaTransformer2DModel", 8_899_983_424),
        autoencoder=autoencoder(16, quant=False),
        encoders=(T5_XXL,),
        latent=(16, 128, 128),
    ),
}
