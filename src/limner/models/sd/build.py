"""Build Stable Diffusion pipelines of any size from nothing: the base models of worlds, and the miniatures of tests."""

from __future__ import annotations

from dataclasses import dataclass
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

from limner.core.types import Vocabulary
from limner.models.autoencoder import small_autoencoder
from limner.models.clip import clip_config, projecting_encoder, word_tokenizer

Kind: TypeAlias = Literal["sd15", "sd21", "sdxl"]
CHAIN = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class SDSize:
    """The sizes of a Stable Diffusion pipeline with one CLIP text encoder, for pictures `8 x latent_size` pixels wide.

    The UNet is narrow at the latent's own resolution, and reads the text at half of it.
    """

    vocabulary: Vocabulary
    latent_size: int = 8
    latent_channels: int = 8
    autoencoder_channels: tuple[int, int, int, int] = (8, 16, 32, 64)
    channels: tuple[int, int] = (48, 112)
    head_width: int = 16
    text_width: int = 64
    text_layers: int = 2


def build(size: SDSize, seed: int = 0) -> StableDiffusionPipeline:
    """Return a randomly initialised pipeline that predicts noise and samples by DDIM."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        known = size.vocabulary
        tokenizer = word_tokenizer(known.words, known.max_length, known.alone)
        return StableDiffusionPipeline(
            vae=small_autoencoder(size.autoencoder_channels, size.latent_channels, size.latent_size),
            text_encoder=CLIPTextModel(clip_config(tokenizer, size.text_width, size.text_layers)),
            tokenizer=tokenizer,
            unet=UNet2DConditionModel(
                sample_size=size.latent_size,
                in_channels=size.latent_channels,
                out_channels=size.latent_channels,
                layers_per_block=1,
                block_out_channels=size.channels,
                norm_num_groups=16,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=size.text_width,
                attention_head_dim=size.head_width,
            ),
            scheduler=DDIMScheduler(**CHAIN, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


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
