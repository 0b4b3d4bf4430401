"""Published HunyuanVideo checkpoints, whose network and autoencoder are those of diffusers' defaults."""

from __future__ import annotations

from limner.models.published import CLIP_L, Part, Published

LLAMA_8B = Part(
    "LlamaModel",
    7_505_186_816,
    {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128320,
    },
)
PUBLISHED = {
    "hunyuan_video": Published(
        hub="hunyuanvideo-community/HunyuanVideo",
        licence="its own (Tencent Hunyuan Community)",
        prediction="velocity",
        network=Part("HunyuanVideoTransformer3DModel", 12_821_012_544),
        autoencoder=Part("AutoencoderKLHunyuanVideo", 246_478_803),
        encoders=(LLAMA_8B, CLIP_L),
        latent=(16, 33, 90, 160),
    ),
}
