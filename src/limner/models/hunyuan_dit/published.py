"""Published Hunyuan-DiT checkpoints."""

from __future__ import annotations

from limner.models.published import Part, Published, autoencoder

PUBLISHED = {
    "hunyuan_dit_1_2": Published(
        hub="Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers",
        licence="Tencent Hunyuan Community",
        prediction="v",
        network=Part(
            "HunyuanDiT2DModel",
            1_499_952_032,
            {
                "in_channels": 4,
                "patch_size": 2,
                "sample_size": 128,
                "hidden_size": 1408,
                "num_layers": 40,
                "mlp_ratio": 4.3637,
                "use_style_cond_and_image_meta_size": False,
            },
        ),
        autoencoder=autoencoder(4, quant=True),
        encoders=(
            Part(
                "BertModel",
                352_035_840,
                {
                    "vocab_size": 47020,
                    "hidden_size": 1024,
                    "intermediate_size": 4096,
                    "num_hidden_layers": 24,
                    "num_attention_heads": 16,
                },
            ),
            Part(
                "T5EncoderModel",
                1_669_958_656,
                {
                    "vocab_size": 250112,
                    "d_model": 2048,
                    "d_kv": 64,
                    "d_ff": 5120,
                    "num_layers": 24,
                    "num_heads": 32,
                    "feed_forward_proj": "gated-gelu",
                },
            ),
        ),
        latent=(4, 128, 128),
    ),
}
