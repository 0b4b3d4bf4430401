"""Build HiDream-I1 in miniature from nothing."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HiDreamImagePipeline, HiDreamImageTransformer2DModel

from limner.models.autoencoder import tiny_autoencoder
from limner.models.clip import projecting_encoder, word_tokenizer
from limner.models.llm import byte_tokenizer, llama_writer
from limner.models.t5 import letter_tokenizer, t5_encoder


def tiny_pipeline(seed: int = 0, scheduler: Any = None, experts: int = 4) -> HiDreamImagePipeline:
    """Return HiDream-I1 in miniature, random weights: its words are of two layers, a token goes to two `experts`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer, tokenizer_2 = (word_tokenizer(("red", "star"), 16) for _ in range(2))
        tokenizer_3, tokenizer_4 = letter_tokenizer(128), byte_tokenizer()
        return HiDreamImagePipeline(
            scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=tiny_autoencoder(4, 0.3611, 0.1159),
            text_encoder=projecting_encoder(tokenizer, 32, 1),
            tokenizer=tokenizer,
            text_encoder_2=projecting_encoder(tokenizer_2, 32, 1),
            tokenizer_2=tokenizer_2,
            text_encoder_3=t5_encoder(tokenizer_3, 32),
            tokenizer_3=tokenizer_3,
            text_encoder_4=llama_writer(tokenizer_4, 24, 2),
            tokenizer_4=tokenizer_4,
            transformer=HiDreamImageTransformer2DModel(
                patch_size=2,
                in_channels=4,
                out_channels=4,
                num_layers=1,
                num_single_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                caption_channels=[32, 24],
                text_emb_dim=64,
                num_routed_experts=experts,
                axes_dims_rope=(8, 4, 4),
                max_resolution=(8, 8),
                llama_layers=[0, 1, 1],
            ),
        )
