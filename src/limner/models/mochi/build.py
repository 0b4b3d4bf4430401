"""Build Mochi in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLMochi,
    FlowMatchEulerDiscreteScheduler,
    MochiPipeline,
    MochiTransformer3DModel,
)

from limner.models.t5 import letter_tokenizer, t5_encoder


def tiny_pipeline(seed: int = 0) -> MochiPipeline:
    """Return Mochi in miniature, random weights: its 8 x 8 pixels and 6 frames a latent one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = letter_tokenizer(256)
        return MochiPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
            vae=AutoencoderKLMochi(
                latent_channels=12,
                encoder_block_out_channels=(32, 32, 32, 32),
                decoder_block_out_channels=(32, 32, 32, 32),
                layers_per_block=(1, 1, 1, 1, 1),
            ),
            text_encoder=t5_encoder(tokenizer, 32),
            tokenizer=tokenizer,
            transformer=MochiTransformer3DModel(
                num_attention_heads=2,
                attention_head_dim=8,
                num_layers=2,
                pooled_projection_dim=16,
                in_channels=12,
                text_embed_dim=32,
                time_embed_dim=8,
                max_sequence_length=16,
            ),
        )
