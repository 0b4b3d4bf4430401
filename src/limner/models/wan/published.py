"""Published Wan checkpoints that limner serves."""

from __future__ import annotations

from limner.models.published import Part, Published

UMT5_XXL = Part(
    "UMT5EncoderModel",
    5_680_910_336,
    {
        "d_model": 4096,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "d_kv": 64,
        "vocab_size": 256384,
        "feed_forward_proj": "gated-gelu",
    },
)
PUBLISHED = {
    "wan21_1_3b": Published(
        hub="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        licence="Apache-2.0",
        prediction="velocity",
        network=Part(
            "WanTransformer3DModel",
            1_418_996_800,
            {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30},
        ),
        autoencoder=Part("AutoencoderKLWan", 126_892_531),
        encoders=(UMT5_XXL,),
        latent=(16, 21, 60, 104),
        recipe="wan_1_3b",
    ),
}
