"""Build SANA and SANA-Sprint in miniature from nothing."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
)

from limner.models.llm import byte_tokenizer, gemma

INSTRUCTION = (
    " prompt",
    "Enhanced",
    " detail",
    "description",
    "specifics",
    "examples",
    "sleeping",
    "flowers",
    "street",
)
"""Words of what SANA tells its language model before a prompt, a token each, to shorten it."""


def tiny_pipeline(seed: int = 0, order: int = 2) -> SanaPipeline:
    """Return SANA in miniature, random weights; a solver of `order` 1 takes Euler's steps."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        solver = DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=order
        )
        return SanaPipeline(scheduler=solver, transformer=linear_transformer(), **shared_parts())


def tiny_sprint(seed: int = 0) -> SanaSprintPipeline:
    """Return SANA-Sprint in miniature, random weights: its transformer is told the scale of guidance."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        told = linear_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads")
        return SanaSprintPipeline(scheduler=SCMScheduler(), transformer=told, **shared_parts())


def linear_transformer(**own: Any) -> SanaTransformer2DModel:
    """Return a randomly initialised transformer."""
    return SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=32,
        sample_size=4,
        **own,
    )


def shared_parts() -> dict[str, Any]:
    """Return what both pipelines encode and decode by."""
    tokenizer = byte_tokenizer(INSTRUCTION)
    blocks = ["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"]
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in (
        ("block_types", blocks), ("block_out_channels", (8, 8, 8, 8)), ("layers_per_block", (1, 1, 1, 1)),
        ("qkv_multiscales", ((), (), (), (5,))))}  # fmt: skip
    return {
        "vae": AutoencoderDC(latent_channels=4, attention_head_dim=4, scaling_factor=0.41407, **sides),
        "text_encoder": gemma(tokenizer, 32),
        "tokenizer": tokenizer,
    }
