"""Published Lumina Image 2 checkpoints."""

from __future__ import annotations

from limner.models.published import GEMMA_2B, Part, Published, autoencoder

PUBLISHED = {
    "lumina2": Published(
        hub="Alpha-VLLM/Lumina-Image-2.0",
        licence="Apache-2.0",
        prediction="velocity",
        network=Part("Lumina2Transformer2DModel", 2_609_769_152, {"cap_feat_dim": 2304}),
        autoencoder=autoencoder(16, quant=False),
        encoders=(GEMMA_2B,),
        latent=(16, 128, 128),
    ),
}
