"""Published Wan checkpoints that limner serves, as diffusers' convert_wan_to_diffusers.py makes them.

That of first and last frame of 2.1 is left out.
"""

from __future__ import annotations

from dataclasses import replace

from limner.models.published import Part, Published, miniature

BUILD = "limner.models.wan.build"
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
AUTOENCODER = Part("AutoencoderKLWan", 126_892_531)
"""That of 2.1, and of the 14B of 2.2."""
AUTOENCODER_22 = Part(
    "AutoencoderKLWan",
    704_688_668,
    {
        "base_dim": 160,
        "decoder_base_dim": 256,
        "z_dim": 48,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_temporal": 4,
        "scale_factor_spatial": 16,
        "latents_mean": [
            *(-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891),
            *(0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502),
            *(-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723),
            *(-0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667),
        ],
        "latents_std": [
            *(0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901),
            *(0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659),
            *(0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944),
            *(0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744),
        ],
    },
)
"""That of the 5B of 2.2."""
CLIP_SIGHT_H = Part(
    "CLIPVisionModel",
    630_766_080,
    {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": 224,
        "hidden_act": "gelu",
    },
)
"""What 2.1 sees a first frame by, OpenCLIP's ViT-H/14: `clip_xlm_roberta_vit_h_14` of Wan's own wan/modules/clip.py."""
WAN21_14B = Published(
    hub="Wan-AI/Wan2.1-T2V-14B-Diffusers",
    licence="Apache-2.0",
    prediction="velocity",
    network=Part("WanTransformer3DModel", 14_288_491_584),
    autoencoder=AUTOENCODER,
    encoders=(UMT5_XXL,),
    latent=(16, 21, 60, 104),
)
WAN21_I2V = replace(
    WAN21_14B,
    hub="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
    network=Part(
        "WanTransformer3DModel", 16_394_878_784, {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
    ),
    sight=CLIP_SIGHT_H,
    miniature=miniature(BUILD, by="tiny_seeing"),
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
        autoencoder=AUTOENCODER,
        encoders=(UMT5_XXL,),
        latent=(16, 21, 60, 104),
        recipe="wan_1_3b",
    ),
    "wan21_14b": WAN21_14B,
    "wan21_i2v_480p": WAN21_I2V,
    "wan21_i2v_720p": replace(WAN21_I2V, hub="Wan-AI/Wan2.1-I2V-14B-720P-Diffusers"),
    "wan22_a14b": replace(
        WAN21_14B,
        hub="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
        experts=2,
        miniature=miniature(BUILD, by="tiny_experts"),
    ),
    "wan22_i2v_a14b": replace(
        WAN21_14B,
        hub="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
        network=Part("WanTransformer3DModel", 14_288_901_184, {"in_channels": 36}),
        experts=2,
        miniature=miniature(BUILD, by="tiny_beside"),
    ),
    "wan22_5b": Published(
        hub="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        licence="Apache-2.0",
        prediction="velocity",
        network=Part(
            "WanTransformer3DModel",
            4_999_787_712,
            {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48, "out_channels": 48},
        ),
        autoencoder=AUTOENCODER_22,
        encoders=(UMT5_XXL,),
        latent=(48, 21, 30, 52),
        cell=16,
        miniature=miniature(BUILD, by="tiny_of_times"),
    ),
}
