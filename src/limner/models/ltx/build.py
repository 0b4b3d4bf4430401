"""Build LTX-Video in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)

from limner.models.t5 import letter_tokenizer, t5_encoder


def tiny_pipeline(seed: int = 0) -> LTXPipeline:
    """Return LTX-Video in miniature, random weights: its 32 x 32 pixels and 8 frames a latent one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = letter_tokenizer(128)
        autoencoder = AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
        )
        torch.nn.init.normal_(autoencoder.latents_mean, std=0.3)
        torch.nn.init.uniform_(autoencoder.latents_std, 0.5, 2.0)
        return LTXPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True,
                base_shift=0.95,
                max_shift=2.05,
                base_image_seq_len=1024,
                max_image_seq_len=4096,
                shift_terminal=0.1,
            ),
            vae=autoencoder,
            text_encoder=t5_encoder(tokenizer, 32),
            tokenizer=tokenizer,
            transformer=LTXVideoTransformer3DModel(
                in_channels=8,
                out_channels=8,
                num_attention_heads=2,
                attention_head_dim=16,
                cross_attention_dim=32,
                num_layers=2,
                caption_channels=32,
            ),
        )
