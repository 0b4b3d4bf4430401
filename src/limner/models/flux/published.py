"""Published FLUX.1 checkpoints."""

from __future__ import annotations

from dataclasses import replace

from limner.models.published import CLIP_L, T5_XXL, Part, Published, autoencoder

DEV = Published(
    hub="black-forest-labs/FLUX.1-dev",
    licence="FLUX.1 [dev] Non-Commercial",
    prediction="velocity",
    network=Part("FluxTransformer2DModel", 11_901_408_320, {"guidance_embeds": True}),
    autoencoder=autoencoder(16, quant=False),
    encoders=(CLIP_L, T5_XXL),
    latent=(16, 128, 128),
    recipe="flux1_dev",
)
PUBLISHED = {
    "flux1_dev": DEV,
    "flux1_schnell": replace(
        DEV,
        hub="black-forest-labs/FLUX.1-schnell",
        licence="Apache-2.0",
        network=Part("FluxTransformer2DModel", 11_891_178_560, {"guidance_embeds": False}),
        recipe="",
    ),
}
PUBLISHED_KONTEXT = {"flux1_kontext_dev": replace(DEV, hub="black-forest-labs/FLUX.1-Kontext-dev", recipe="")}
