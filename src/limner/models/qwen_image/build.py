"""Build Qwen-Image in miniature from nothing."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import Qwen2Tokenizer, Qwen2VLImageProcessorPil

from limner.models.llm import DESCRIBE, EDIT, SIGHT, byte_tokenizer, qwen_vl
from limner.models.qwen_image.reading import Reading

SIZE = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384}
"""Pixels of a picture as Qwen2.5-VL may see it, as the published checkpoints have it."""


def tiny_pipeline(seed: int = 0) -> QwenImagePipeline:
    """Return Qwen-Image in miniature, random weights: its autoencoder's three halvings and statistics."""
    return QwenImagePipeline(**_parts(seed, byte_tokenizer(DESCRIBE)))


def tiny_edit(seed: int = 0) -> QwenImageEditPipeline:
    """Return Qwen-Image-Edit in miniature, random weights."""
    tokenizer = byte_tokenizer(EDIT, SIGHT.values())
    return QwenImageEditPipeline(**_parts(seed, tokenizer), processor=_reading(tokenizer))


def tiny_edit_plus(seed: int = 0, zero_cond_t: bool = True) -> QwenImageEditPlusPipeline:
    """Return Qwen-Image-Edit-2511 in miniature, or 2509, whose network is not told what has no noise."""
    tokenizer = byte_tokenizer(EDIT, SIGHT.values())
    parts = _parts(seed, tokenizer, zero_cond_t=zero_cond_t)
    return QwenImageEditPlusPipeline(**parts, processor=_reading(tokenizer))


def _reading(tokenizer: Qwen2Tokenizer) -> Reading:
    return Reading(Qwen2VLImageProcessorPil(size=SIZE), tokenizer)


def _parts(seed: int, tokenizer: Qwen2Tokenizer, **told: bool) -> dict[str, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer = QwenImageTransformer2DModel(
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 6, 6),
            **told,
        )
        return {
            "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02),
            "vae": AutoencoderKLQwenImage(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
            "text_encoder": qwen_vl(tokenizer, 32),
            "tokenizer": tokenizer,
            "transformer": transformer,
        }
