"""Build AuraFlow in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler

from limner.models.autoencoder import tiny_autoencoder
from limner.models.t5 import letter_tokenizer, umt5_encoder


def tiny_pipeline(seed: int = 0) -> AuraFlowPipeline:
    """Return AuraFlow in miniature, random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = letter_tokenizer(256)
        return AuraFlowPipeline(
            tokenizer=tokenizer,
            text_encoder=umt5_encoder(tokenizer, 32, 1),
            vae=tiny_autoencoder(4, 0.13025, 0.0),
            transformer=AuraFlowTransformer2DModel(
                sample_size=4,
                in_channels=4,
                out_channels=4,
                num_mmdit_layers=1,
                num_single_dit_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=32,
                caption_projection_dim=32,
                pos_embed_max_size=64,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
        )
