"""Hunyuan-DiT (arXiv:2405.08748): diffusion by a transformer that reads the states of a Chinese CLIP and of mT5.

Its network answers with v and a variance, which its pipeline leaves aside, and so does limner.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import HunyuanDiTPipeline
from diffusers.models.embeddings import get_2d_rotary_pos_embed
from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid
from torch import Tensor

from limner.core.transfer import sent
from limner.core.types import Condition
from limner.models.chain import CHAIN, chain, chain_times, level
from limner.models.honoured import UNSHIFTED, Honoured, require_equal
from limner.models.hunyuan_dit.build import tiny_pipeline
from limner.models.hunyuan_dit.settings import HunyuanDiTSettings
from limner.models.lora import OF_PEFT
from limner.models.piped import Family, Piped

LENGTHS = (77, 256)
"""Tokens of each encoder that the pipeline reads."""
ORIGINAL = 1024
"""Height and width that an earlier network is told a picture was of before it was scaled."""
GRID = 32
"""Tokens of a side that places were learned on: others are scaled to it."""
TRANSFORMER = Honoured(
    classes=("HunyuanDiT2DModel",),
    free=frozenset(
        "activation_fn attention_head_dim cross_attention_dim cross_attention_dim_t5 hidden_size in_channels "
        "mlp_ratio num_attention_heads num_layers pooled_projection_dim sample_size "
        "use_style_cond_and_image_meta_size".split()
    ),
    only={"learn_sigma": (True,), "patch_size": (2,), "text_len": (LENGTHS[0],), "text_len_t5": (LENGTHS[1],)},
    idle=frozenset({"norm_type"}),  # which no layer reads
)


def require(pipeline: Any, settings: HunyuanDiTSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    CHAIN.require("scheduler", pipeline.scheduler)
    TRANSFORMER.require("transformer", pipeline.transformer)
    UNSHIFTED.require("vae", pipeline.vae)
    has, latent = pipeline.transformer.config, pipeline.vae.config.latent_channels
    words, second = pipeline.text_encoder.config.hidden_size, pipeline.text_encoder_2.config.d_model
    require_equal("transformer has in_channels", has.in_channels, "the vae has latent_channels", latent)
    require_equal("transformer has cross_attention_dim", has.cross_attention_dim, "the text encoder gives", words)
    require_equal("transformer has cross_attention_dim_t5", has.cross_attention_dim_t5, "text_encoder_2 gives", second)


def embed(pipeline: Any, settings: HunyuanDiTSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return each encoder's states of each text, and which of them there are."""
    rows = {}
    for place, (name, length) in enumerate(zip(("words", "context"), LENGTHS, strict=True)):
        rows[name], _, mask, _ = pipeline.encode_prompt(
            texts,
            device=pipeline.text_encoder.device,
            do_classifier_free_guidance=False,
            max_sequence_length=length,
            text_encoder_index=place,
        )
        rows[f"{name}_mask"] = mask.bool()
    return rows


def turns(network: Any, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the places of a picture of so many tokens."""
    corners = get_resize_crop_region_for_grid((height, width), GRID)
    wide = network.config.attention_head_dim
    return get_2d_rotary_pos_embed(wide, corners, (height, width), device=device, output_type="pt")


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's v at the chain's level nearest to t."""
    patch, (height, width) = model.family.patch, (x.shape[-2], x.shape[-1])
    sizes = [ORIGINAL, ORIGINAL, model.cell * height, model.cell * width, 0, 0]
    (found,) = model.networks["transformer"](
        x,
        level(model.schedule, t).to(x.dtype),
        encoder_hidden_states=rows["words"],
        text_embedding_mask=rows["words_mask"],
        encoder_hidden_states_t5=rows["context"],
        text_embedding_mask_t5=rows["context_mask"],
        image_meta_size=sent(torch.tensor([sizes], dtype=x.dtype), x.device).repeat(len(x), 1),
        style=torch.zeros(len(x), dtype=torch.long, device=x.device),
        image_rotary_emb=turns(model.pipeline.transformer, height // patch, width // patch, x.device),
        return_dict=False,
    )
    return found.chunk(2, dim=1)[0]


HUNYUAN_DIT = Family(
    kind="hunyuan_dit",
    pipelines=(HunyuanDiTPipeline,),
    parts=("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae"),
    without={"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    require=require,
    embed=embed,
    predict=predict,
    chain=lambda pipeline: chain(pipeline.scheduler),
    times=lambda pipeline, steps, grid, _: chain_times(pipeline.scheduler, steps, grid),
    lora=OF_PEFT,
    lora_targets=("to_q", "to_k", "to_v", "to_out.0"),
    miniature=tiny_pipeline,
    tiny_settings=HunyuanDiTSettings(resolution=32),
)
