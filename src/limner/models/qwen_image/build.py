"""Build Qwen-Image in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)

from limner.models.llm import DESCRIBE, byte_tokenizer, qwen_vl


def tiny_pipeline(seed: int = 0) -> QwenImagePipeline:
    """Return Qwen-Image in miniature, random weights: its autoencoder's three halvings and statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = byte_tokenizer(DESCRIBE)
        transformer = QwenImageTransformer2DModel(
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 6, 6),
        )
        return QwenImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02),
            vae=AutoencoderKLQwenImage(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
            text_encoder=qwen_vl(tokenizer, 32),
            tokenizer=tokenizer,
            transformer=transformer,
        )
