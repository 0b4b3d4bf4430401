"""Build Z-Image in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

from limner.models.autoencoder import tiny_autoencoder
from limner.models.llm import byte_tokenizer, qwen


def tiny_pipeline(seed: int = 0) -> ZImagePipeline:
    """Return Z-Image in miniature, random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = byte_tokenizer(("user\n", "assistant\n"))
        transformer = ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=32,
            axes_dims=[4, 6, 6],
            axes_lens=[600, 64, 64],
        )
        return ZImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=tiny_autoencoder(4, 0.3611, 0.1159),
            text_encoder=qwen(tokenizer, 32),
            tokenizer=tokenizer,
            transformer=transformer,
        )
