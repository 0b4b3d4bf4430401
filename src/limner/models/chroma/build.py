"""Build Chroma in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

from limner.models.autoencoder import tiny_autoencoder
from limner.models.t5 import letter_tokenizer, t5_encoder

CALM = 0.2
"""Of random weights that make the modulation: a trained one is smooth in time, which bfloat16 rounds."""


def tiny_pipeline(seed: int = 0) -> ChromaPipeline:
    """Return Chroma in miniature, random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = letter_tokenizer(512)
        transformer = ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=8,
            approximator_hidden_dim=32,
            approximator_layers=1,
        )
        transformer.distilled_guidance_layer.out_proj.weight.data.mul_(CALM)
        return ChromaPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            vae=tiny_autoencoder(4, 0.3611, 0.1159),
            text_encoder=t5_encoder(tokenizer, 48),
            tokenizer=tokenizer,
            transformer=transformer,
        )
