"""Build AnimateDiff in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import AnimateDiffPipeline, DDIMScheduler, MotionAdapter, UNet2DConditionModel
from transformers import CLIPTextModel

from limner.models.autoencoder import tiny_autoencoder
from limner.models.clip import clip_config, word_tokenizer

CHAIN = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}


def tiny_pipeline(seed: int = 0) -> AnimateDiffPipeline:
    """Return AnimateDiff in miniature, random weights, as people make it: a UNet of pictures and a motion adapter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = word_tokenizer(("red", "star"), 16)
        return AnimateDiffPipeline(
            vae=tiny_autoencoder(4, 0.18215, 0.0),
            text_encoder=CLIPTextModel(clip_config(tokenizer, 32, 2)),
            tokenizer=tokenizer,
            unet=UNet2DConditionModel(
                sample_size=4,
                layers_per_block=1,
                block_out_channels=(16, 32),
                norm_num_groups=8,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                cross_attention_dim=32,
                attention_head_dim=2,
            ),
            motion_adapter=MotionAdapter(
                block_out_channels=(16, 32),
                motion_layers_per_block=1,
                motion_norm_num_groups=8,
                motion_num_attention_heads=2,
                motion_max_seq_length=8,
            ),
            scheduler=DDIMScheduler(**CHAIN, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        )
