"""Build CogVideoX in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)

from limner.models.t5 import letter_tokenizer, t5_encoder


def tiny_pipeline(seed: int = 0, large: bool = False) -> CogVideoXPipeline:
    """Return CogVideoX 2B in miniature, random weights, or 5B, whose places turn what attention compares."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = letter_tokenizer(226)
        return CogVideoXPipeline(
            tokenizer=tokenizer,
            text_encoder=t5_encoder(tokenizer, 32),
            vae=AutoencoderKLCogVideoX(
                latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2
            ),
            transformer=CogVideoXTransformer3DModel(
                num_attention_heads=2,
                attention_head_dim=16,
                in_channels=4,
                out_channels=4,
                time_embed_dim=8,
                text_embed_dim=32,
                num_layers=2,
                sample_width=4,
                sample_height=4,
                sample_frames=9,
                max_text_seq_length=16,
                use_rotary_positional_embeddings=large,
            ),
            scheduler=CogVideoXDDIMScheduler(
                beta_schedule="scaled_linear",
                clip_sample=False,
                prediction_type="v_prediction",
                rescale_betas_zero_snr=True,
                snr_shift_scale=1.0 if large else 3.0,
                timestep_spacing="trailing",
            ),
        )
