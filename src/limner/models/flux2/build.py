"""Build FLUX.2 and FLUX.2 Klein in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

from limner.models.llm import SPOKEN, byte_tokenizer, mistral_vl, qwen_writer

DEEP, KLEIN_DEEP = 30, 27
"""Layers of a text encoder up to the last that the pipeline reads."""
CHANNELS = 4
"""Of a latent before 2 x 2 of them become one."""


def tiny_pipeline(seed: int = 0) -> Flux2Pipeline:
    """Return FLUX.2 dev in miniature, random weights; its tokenizer is one of texts alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = byte_tokenizer((SYSTEM_MESSAGE, "system\n", "user\n"))
        tokenizer.chat_template = SPOKEN
        return Flux2Pipeline(
            scheduler=_scheduler(),
            vae=_autoencoder(),
            text_encoder=mistral_vl(tokenizer, 16, DEEP),
            tokenizer=tokenizer,
            transformer=_transformer(3 * 16, guided=True),
        )


def tiny_klein(seed: int = 0, distilled: bool = False) -> Flux2KleinPipeline:
    """Return FLUX.2 Klein in miniature, random weights; one that is `distilled` is never guided."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = byte_tokenizer(("user\n", "assistant\n"))
        return Flux2KleinPipeline(
            scheduler=_scheduler(),
            vae=_autoencoder(),
            text_encoder=qwen_writer(tokenizer, 16, KLEIN_DEEP),
            tokenizer=tokenizer,
            transformer=_transformer(3 * 16, guided=False),
            is_distilled=distilled,
        )


def _scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def _transformer(context: int, guided: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=4 * CHANNELS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=context,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guided,
    )


def _autoencoder() -> AutoencoderKLFlux2:
    made = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 8, 8), layers_per_block=1, latent_channels=CHANNELS, norm_num_groups=4, sample_size=32
    )
    torch.nn.init.normal_(made.bn.running_mean, std=0.3)
    torch.nn.init.uniform_(made.bn.running_var, 0.5, 2.0)
    return made
