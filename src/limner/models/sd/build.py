"""Build Stable Diffusion pipelines in miniature, with random weights."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel

from limner.models.clip import clip_config, projecting_encoder, word_tokenizer

Kind: TypeAlias = Literal["sd15", "sd21", "sdxl"]
CHAIN = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def tiny_pipeline(kind: Kind, seed: int = 0) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """Return a pipeline of the kind with random weights, 32 x 32 pictures and its original's scheduler."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = word_tokenizer(("red", "star"), 16)
        autoencoder = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 4, 8, 8),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=32,
            scaling_factor=0.13025 if kind == "sdxl" else 0.18215,
        )
        encoder = CLIPTextModel(clip_config(tokenizer, 32, 2))
        unet = UNet2DConditionModel(
            sample_size=4,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=64 if kind == "sdxl" else 32,
            attention_head_dim=4,
            use_linear_projection=kind != "sd15",
            **_size_embedding(32) if kind == "sdxl" else {},
        )
        if kind == "sdxl":
            return StableDiffusionXLPipeline(
                vae=autoencoder,
                text_encoder=encoder,
                text_encoder_2=projecting_encoder(tokenizer, 32, 2),
                tokenizer=tokenizer,
                tokenizer_2=tokenizer,
                unet=unet,
                scheduler=EulerDiscreteScheduler(**CHAIN, steps_offset=1, timestep_spacing="leading"),
                add_watermarker=False,
            )
        scheduler = (
            PNDMScheduler(**CHAIN, skip_prk_steps=True, steps_offset=1)
            if kind == "sd15"
            else DDIMScheduler(**CHAIN, set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction")
        )
        return StableDiffusionPipeline(
            vae=autoencoder,
            text_encoder=encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def _size_embedding(text_width: int) -> dict[str, object]:
    """Return what makes a UNet take XL's pooled text and six sizes."""
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": text_width + 6 * 8,
    }
