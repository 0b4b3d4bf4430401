"""Build HunyuanImage in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLHunyuanImage,
    FlowMatchEulerDiscreteScheduler,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
)
from transformers import ByT5Tokenizer

from limner.models.llm import DESCRIBE, byte_tokenizer, qwen_vl
from limner.models.t5 import t5_encoder


def tiny_pipeline(seed: int = 0) -> HunyuanImagePipeline:
    """Return HunyuanImage in miniature, random weights; it reads 64 tokens at most, where the folder's reads 1000."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer, tokenizer_2 = byte_tokenizer(DESCRIBE), ByT5Tokenizer(extra_ids=0)
        pipeline = HunyuanImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
            vae=AutoencoderKLHunyuanImage(
                in_channels=3,
                out_channels=3,
                latent_channels=16,
                block_out_channels=(32,) * 6,
                layers_per_block=1,
                spatial_compression_ratio=32,
                sample_size=64,
                scaling_factor=0.75289,
            ),
            text_encoder=qwen_vl(tokenizer, 32),
            tokenizer=tokenizer,
            text_encoder_2=t5_encoder(tokenizer_2, 24),
            tokenizer_2=tokenizer_2,
            transformer=HunyuanImageTransformer2DModel(
                in_channels=16,
                out_channels=16,
                num_attention_heads=2,
                attention_head_dim=16,
                num_layers=1,
                num_single_layers=1,
                num_refiner_layers=1,
                text_embed_dim=32,
                text_embed_2_dim=24,
                rope_axes_dim=(8, 8),
            ),
        )
    pipeline.tokenizer_max_length, pipeline.tokenizer_2_max_length = 64, 32
    return pipeline
