"""Published PixArt-Sigma checkpoints."""

from __future__ import annotations

from dataclasses import replace

from limner.models.published import T5_XXL, Part, Published, autoencoder

LARGE = Published(
    hub="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
    licence="CreativeML Open RAIL++-M",
    prediction="noise",
    network=Part(
        "PixArtTransformer2DModel",
        610_856_096,
        {"caption_channels": 4096, "interpolation_scale": 2, "use_additional_conditions": False},
    ),
    autoencoder=autoencoder(4, quant=True),
    encoders=(T5_XXL,),
    latent=(4, 128, 128),
)
PUBLISHED = {
    "pixart_sigma_1024": LARGE,
    "pixart_sigma_512": replace(
        LARGE,
        hub="PixArt-alpha/PixArt-Sigma-XL-2-512-MS",
        network=replace(LARGE.network, config={**LARGE.network.config, "interpolation_scale": 1, "sample_size": 64}),
        latent=(4, 64, 64),
    ),
}
