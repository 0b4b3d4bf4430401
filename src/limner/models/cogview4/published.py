"""Published CogView4 checkpoints."""

from __future__ import annotations

from limner.models.published import Part, Published

GLM_9B = Part("GlmModel", 8_779_194_368)
"""GLM-4 of 9 billion, of the configuration that transformers has by default, without what it writes by."""
PUBLISHED = {
    "cogview4_6b": Published(
        hub="zai-org/CogView4-6B",
        licence="Apache-2.0",
        prediction="velocity",
        network=Part(
            "CogView4Transformer2DModel",
            6_369_118_272,
            {"num_layers": 28, "attention_head_dim": 128, "num_attention_heads": 32},
        ),
        autoencoder=Part(
            "AutoencoderKL",
            406_100_643,
            {
                "block_out_channels": [128, 512, 1024, 1024],
                "down_block_types": ["DownEncoderBlock2D"] * 4,
                "up_block_types": ["UpDecoderBlock2D"] * 4,
                "layers_per_block": 3,
                "latent_channels": 16,
                "mid_block_add_attention": False,
                "scaling_factor": 1.0,
                "use_quant_conv": False,
                "use_post_quant_conv": False,
            },
        ),
        encoders=(GLM_9B,),
        latent=(16, 128, 128),
    ),
}
