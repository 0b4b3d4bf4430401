"""Build SANA in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

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
        tokenizer = byte_tokenizer(INSTRUCTION)
        blocks = ["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"]
        sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in (
            ("block_types", blocks), ("block_out_channels", (8, 8, 8, 8)), ("layers_per_block", (1, 1, 1, 1)),
            ("qkv_multiscales", ((), (), (), (5,))))}  # fmt: skip
        transformer = SanaTransformer2DModel(
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
        )
        return SanaPipeline(
            scheduler=DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=order
            ),
            vae=AutoencoderDC(latent_channels=4, attention_head_dim=4, scaling_factor=0.41407, **sides),
            text_encoder=gemma(tokenizer, 32),
            tokenizer=tokenizer,
            transformer=transformer,
        )
