"""Build Lumina Image 2 in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel

from limner.models.autoencoder import tiny_autoencoder
from limner.models.llm import byte_tokenizer, gemma


def tiny_pipeline(seed: int = 0, dynamic: bool = False) -> Lumina2Pipeline:
    """Return Lumina Image 2 in miniature, random weights; `dynamic`: its shift is that of the scheduler's `mu`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = byte_tokenizer()
        return Lumina2Pipeline(
            transformer=Lumina2Transformer2DModel(
                sample_size=4,
                in_channels=4,
                hidden_size=24,
                num_layers=2,
                num_refiner_layers=1,
                num_attention_heads=2,
                num_kv_heads=1,
                multiple_of=8,
                axes_dim_rope=(4, 4, 4),
                axes_lens=(300, 16, 16),
                cap_feat_dim=32,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0, use_dynamic_shifting=dynamic),
            vae=tiny_autoencoder(4, 0.3611, 0.1159),
            text_encoder=gemma(tokenizer, 32),
            tokenizer=tokenizer,
        )
