"""Build FLUX.1 in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel

from limner.models.autoencoder import tiny_autoencoder
from limner.models.clip import clip_config, word_tokenizer
from limner.models.t5 import letter_tokenizer, t5_encoder


def tiny_pipeline(seed: int = 0, dev: bool = True) -> FluxPipeline:
    """Return FLUX.1 dev in miniature, or schnell, which is told no guidance and shifts no times; random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer, tokenizer_2 = word_tokenizer(("red", "star"), 16), letter_tokenizer(512)
        transformer = FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            pooled_projection_dim=32,
            guidance_embeds=dev,
            axes_dims_rope=(4, 4, 8),
        )
        return FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev),
            vae=tiny_autoencoder(4, 0.3611, 0.1159),
            text_encoder=CLIPTextModel(clip_config(tokenizer, 32, 2)),
            tokenizer=tokenizer,
            text_encoder_2=t5_encoder(tokenizer_2, 48),
            tokenizer_2=tokenizer_2,
            transformer=transformer,
        )


def tiny_kontext(seed: int = 0) -> FluxKontextPipeline:
    """Return FLUX.1 Kontext in miniature, random weights: the parts of dev."""
    return FluxKontextPipeline(**tiny_pipeline(seed).components)
