"""Build PixArt-Sigma in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

from limner.models.autoencoder import tiny_autoencoder
from limner.models.t5 import letter_tokenizer, t5_encoder


def tiny_pipeline(seed: int = 0) -> PixArtSigmaPipeline:
    """Return PixArt-Sigma in miniature, random weights: its network learns a variance too, which nobody reads."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = letter_tokenizer(300)
        return PixArtSigmaPipeline(
            tokenizer=tokenizer,
            text_encoder=t5_encoder(tokenizer, 32),
            vae=tiny_autoencoder(4, 0.13025, 0.0),
            transformer=PixArtTransformer2DModel(
                num_attention_heads=2,
                attention_head_dim=16,
                num_layers=2,
                cross_attention_dim=32,
                sample_size=4,
                caption_channels=32,
            ),
            scheduler=DDIMScheduler(beta_schedule="linear", clip_sample=False),
        )
