"""Published HiDream-I1 checkpoints; none has Llama in its folder, which diffusers is given beside."""

from __future__ import annotations

from dataclasses import replace

from limner.models.published import CLIP_G, CLIP_L, T5_XXL, Part, Published, autoencoder

LLAMA_8B = Part(
    "LlamaForCausalLM",
    8_030_261_248,
    {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
)
"""Llama 3.1 of 8 billion, with what it writes by."""
FULL = Published(
    hub="HiDream-ai/HiDream-I1-Full",
    licence="MIT",
    prediction="velocity",
    network=Part(
        "HiDreamImageTransformer2DModel",
        17_105_733_184,
        {
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "caption_channels": [4096, 4096],
            "axes_dims_rope": [64, 32, 32],
            "llama_layers": [*range(32), *[31] * 16],
        },
    ),
    autoencoder=autoencoder(16, quant=False),
    encoders=(
        replace(CLIP_L, kind="CLIPTextModelWithProjection", parameters=123_781_632, config={
            **CLIP_L.config, "projection_dim": 768, "max_position_embeddings": 248}),
        replace(CLIP_G, parameters=694_840_320, config={**CLIP_G.config, "max_position_embeddings": 218}),
        T5_XXL,
        LLAMA_8B,
    ),
    latent=(16, 128, 128),
)  # fmt: skip
PUBLISHED = {
    "hidream_full": FULL,
    "hidream_dev": replace(FULL, hub="HiDream-ai/HiDream-I1-Dev"),
    "hidream_fast": replace(FULL, hub="HiDream-ai/HiDream-I1-Fast"),
}
