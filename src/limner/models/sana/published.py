"""Published SANA checkpoints."""

from __future__ import annotations

from limner.models.published import GEMMA_2B, Part, Published

BLOCKS = ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3
DEEP = Part(
    "AutoencoderDC",
    312_250_275,
    {
        "encoder_block_types": BLOCKS,
        "decoder_block_types": BLOCKS,
        "upsample_block_type": "interpolate",
        "downsample_block_type": "Conv",
        "scaling_factor": 0.41407,
    },
)
PUBLISHED = {
    "sana_1_6b": Published(
        hub="Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers",
        licence="NSCL v2-custom (NVIDIA)",
        prediction="velocity",
        network=Part("SanaTransformer2DModel", 1_604_462_752),
        autoencoder=DEEP,
        encoders=(GEMMA_2B,),
        latent=(32, 32, 32),
        cell=32,
    ),
}
PUBLISHED_SPRINT = {
    "sana_sprint_1_6b": Published(
        hub="Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers",
        licence="NSCL v2-custom (NVIDIA)",
        prediction="v",
        network=Part(
            "SanaTransformer2DModel", 1_610_237_472, {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
        ),
        autoencoder=DEEP,
        encoders=(GEMMA_2B,),
        latent=(32, 32, 32),
        cell=32,
    ),
}
