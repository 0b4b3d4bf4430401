"""Build CogView4 in miniature from nothing."""

from __future__ import annotations

import json

import torch
from diffusers import CogView4Pipeline, CogView4Transformer2DModel, FlowMatchEulerDiscreteScheduler
from transformers import PreTrainedTokenizerFast

from limner.models.autoencoder import tiny_autoencoder
from limner.models.llm import END, byte_tokenizer, glm

BEGINS = ("[gMASK]", "<sop>")
"""What GLM-4's tokenizer begins every text with."""


def begun_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer over bytes that begins and pads as GLM-4's does: in front."""
    tokenizer = byte_tokenizer(BEGINS)
    backend = tokenizer.backend_tokenizer
    told = json.loads(backend.to_str())
    words = [
        *({"SpecialToken": {"id": each, "type_id": 0}} for each in BEGINS),
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    special = {each: {"id": each, "ids": [tokenizer.convert_tokens_to_ids(each)], "tokens": [each]} for each in BEGINS}
    told["post_processor"] = {"type": "TemplateProcessing", "single": words, "pair": words, "special_tokens": special}
    begun = type(backend).from_str(json.dumps(told))
    return PreTrainedTokenizerFast(tokenizer_object=begun, pad_token=END, padding_side="left")


def tiny_pipeline(seed: int = 0, shift_type: str = "linear") -> CogView4Pipeline:
    """Return CogView4 in miniature, random weights; `shift_type` "" is of a scheduler with a shift of its own, 3."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = begun_tokenizer()
        dynamic = {"use_dynamic_shifting": True, "time_shift_type": shift_type, "max_shift": 0.75, "base_shift": 0.25}
        return CogView4Pipeline(
            tokenizer=tokenizer,
            text_encoder=glm(tokenizer, 32),
            vae=tiny_autoencoder(4, 1.0, 0.0),
            transformer=CogView4Transformer2DModel(
                in_channels=4,
                out_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                text_embed_dim=32,
                time_embed_dim=8,
                condition_dim=4,
                pos_embed_max_size=8,
                sample_size=4,
                rope_axes_dim=(8, 8),
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(**(dynamic if shift_type else {"shift": 3.0})),
        )
