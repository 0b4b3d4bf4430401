"""Published Stable Diffusion 3 and 3.5 checkpoints."""

from __future__ import annotations

from dataclasses import replace

from limner.models.published import CLIP_G, CLIP_L, T5_XXL, Part, Published, autoencoder

CLIP_L_PROJECTED = Part("CLIPTextModelWithProjection", 123_650_304, {**CLIP_L.config, "projection_dim": 768})


def _transformer(parameters: int, heads: int, **more: object) -> Part:
    """Return the transformer of the line: as many layers as heads, and a width of 64 a head."""
    fixed = {"sample_size": 128, "in_channels": 16, "out_channels": 16, "pooled_projection_dim": 2048}
    sizes = {"num_layers": heads, "num_attention_heads": heads, "caption_projection_dim": 64 * heads}
    return Part("SD3Transformer2DModel", parameters, {**fixed, **sizes, "joint_attention_dim": 4096, **more})


MEDIUM = Published(
    hub="stabilityai/stable-diffusion-3.5-medium",
    licence="Stability AI Community",
    prediction="velocity",
    network=_transformer(
        2_243_171_520, 24, pos_embed_max_size=384, qk_norm="rms_norm", dual_attention_layers=list(range(13))
    ),
    autoencoder=autoencoder(16, quant=False),
    encoders=(CLIP_L_PROJECTED, CLIP_G, T5_XXL),
    latent=(16, 128, 128),
    recipe="sd35_medium",
)
PUBLISHED = {
    "sd3_medium": replace(
        MEDIUM,
        hub="stabilityai/stable-diffusion-3-medium-diffusers",
        network=_transformer(2_028_328_000, 24, pos_embed_max_size=192),
        recipe="",
    ),
    "sd35_medium": MEDIUM,
    "sd35_large": replace(
        MEDIUM,
        hub="stabilityai/stable-diffusion-3.5-large",
        network=_transformer(8_056_627_520, 38, pos_embed_max_size=192, qk_norm="rms_norm"),
        recipe="",
    ),
}
