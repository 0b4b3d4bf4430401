"""Build HunyuanVideo in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from transformers import CLIPTextModel

from limner.models.clip import clip_config, word_tokenizer
from limner.models.llm import byte_tokenizer, llama

KEPT = 100
"""Letters of the instruction that are a token each, so that it is about as long as the pipeline takes it to be."""


def tiny_pipeline(seed: int = 0) -> HunyuanVideoPipeline:
    """Return HunyuanVideo in miniature, random weights: its 8 x 8 pixels and 4 frames a latent one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        before, _ = DEFAULT_PROMPT_TEMPLATE["template"].split("{}")
        tokenizer, tokenizer_2 = byte_tokenizer((before[:-KEPT],)), word_tokenizer(("red", "star"), 77)
        return HunyuanVideoPipeline(
            text_encoder=llama(tokenizer, 32, 3),
            tokenizer=tokenizer,
            transformer=HunyuanVideoTransformer3DModel(
                in_channels=4,
                out_channels=4,
                num_attention_heads=2,
                attention_head_dim=16,
                num_layers=1,
                num_single_layers=1,
                num_refiner_layers=1,
                text_embed_dim=32,
                pooled_projection_dim=32,
                rope_axes_dim=(4, 4, 8),
            ),
            vae=AutoencoderKLHunyuanVideo(
                latent_channels=4,
                block_out_channels=(8, 8, 8, 8),
                layers_per_block=1,
                norm_num_groups=4,
                mid_block_add_attention=False,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
            text_encoder_2=CLIPTextModel(clip_config(tokenizer_2, 32, 2)),
            tokenizer_2=tokenizer_2,
        )
