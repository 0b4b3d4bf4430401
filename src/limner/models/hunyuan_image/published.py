"""Published HunyuanImage checkpoints."""

from __future__ import annotations

from limner.models.published import QWEN_VL_7B, Part, Published

BYT5_SMALL = Part(
    "T5EncoderModel",
    219_314_944,
    {
        "vocab_size": 1510,
        "d_model": 1472,
        "d_kv": 64,
        "d_ff": 3584,
        "num_layers": 12,
        "num_heads": 6,
        "feed_forward_proj": "gated-gelu",
    },
)
"""Of Glyph-SDXL-v2: it reads bytes."""
PUBLISHED = {
    "hunyuan_image_2_1": Published(
        hub="hunyuanvideo-community/HunyuanImage-2.1-Diffusers",
        licence="Tencent Hunyuan Community",
        prediction="velocity",
        network=Part("HunyuanImageTransformer2DModel", 17_425_795_520, {"text_embed_2_dim": 1472}),
        autoencoder=Part(
            "AutoencoderKLHunyuanImage",
            405_575_491,
            {
                "in_channels": 3,
                "out_channels": 3,
                "latent_channels": 64,
                "block_out_channels": [128, 256, 512, 512, 1024, 1024],
                "layers_per_block": 2,
                "spatial_compression_ratio": 32,
                "sample_size": 384,
                "scaling_factor": 0.75289,
            },
        ),
        encoders=(QWEN_VL_7B, BYT5_SMALL),
        latent=(64, 64, 64),
        cell=32,
    ),
}
