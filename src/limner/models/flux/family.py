"""FLUX.1 (Black Forest Labs, 2024): rectified flow by a transformer over text and packed latents.

Its dev network is distilled for guidance: it is told a scale, and gives the guided velocity in one evaluation
(Meng et al., arXiv:2210.03142). Guidance of the sampler is diffusers' `true_cfg_scale`, on top of that.

Kontext (arXiv:2506.15742) edits: it reads the tokens of a given picture behind those of the noise, as another frame.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import FluxKontextPipeline, FluxPipeline
from torch import Tensor

from limner.core.transfer import sent
from limner.core.types import Condition
from limner.models.edited import latents
from limner.models.flux.build import tiny_kontext, tiny_pipeline
from limner.models.flux.settings import FluxKontextSettings, FluxSettings
from limner.models.honoured import Honoured, require_equal, require_parts
from limner.models.packing import packed, places, unpacked
from limner.models.parts import JOINT_ATTENTION, equal_times
from limner.models.piped import Family, Piped

GIVEN = torch.tensor([1.0, 0, 0])
"""What tells the places of a given picture from those of the one that is drawn."""
TRANSFORMER = Honoured(
    classes=("FluxTransformer2DModel",),
    free=frozenset(
        "attention_head_dim axes_dims_rope guidance_embeds in_channels joint_attention_dim num_attention_heads "
        "num_layers num_single_layers pooled_projection_dim".split()
    ),
    only={"out_channels": (None,), "patch_size": (1,)},
)


def require(pipeline: Any, settings: FluxSettings | FluxKontextSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, TRANSFORMER, cells=4)
    has = pipeline.transformer.config
    pooled, context = pipeline.text_encoder.config.hidden_size, pipeline.text_encoder_2.config.d_model
    require_equal("transformer has pooled_projection_dim", has.pooled_projection_dim, "the text encoder gives", pooled)
    require_equal("transformer has joint_attention_dim", has.joint_attention_dim, "text_encoder_2 gives", context)


def embed(pipeline: Any, settings: FluxSettings | FluxKontextSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return T5's states of each text, and CLIP's pooled one."""
    context, pooled, _ = pipeline.encode_prompt(
        texts, device=pipeline.text_encoder.device, max_sequence_length=settings.max_sequence_length
    )
    return {"context": context, "pooled": pooled}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's velocity, noise - x0; a token's place is its row and column, a word has none."""
    size = (x.shape[-2], x.shape[-1])
    guided = model.pipeline.transformer.config.guidance_embeds
    tokens, where = packed(x), places(size)
    if "image" in rows:
        given = rows["image"]
        tokens = torch.cat([tokens, packed(given)], 1)
        where = torch.cat([where, places((given.shape[-2], given.shape[-1])) + GIVEN])
    (velocity,) = model.networks["transformer"](
        hidden_states=tokens,
        timestep=t,
        guidance=torch.full_like(t, model.settings.guidance) if guided else None,
        pooled_projections=rows["pooled"],
        encoder_hidden_states=rows["context"],
        txt_ids=torch.zeros(rows["context"].shape[1], 3, dtype=x.dtype, device=x.device),
        img_ids=sent(where, x.device).to(x),
        return_dict=False,
    )
    return unpacked(velocity[:, : packed(x).shape[1]], size)


FLUX = Family(
    kind="flux",
    pipelines=(FluxPipeline,),
    parts=("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae"),
    without={"image_encoder": None, "feature_extractor": None},
    require=require,
    embed=embed,
    predict=predict,
    channels=lambda pipeline: pipeline.transformer.config.in_channels // 4,
    times=equal_times,
    lora_targets=(
        *JOINT_ATTENTION,
        "ff.net.0.proj",
        "ff.net.2",
        "ff_context.net.0.proj",
        "ff_context.net.2",
    ),
    miniature=tiny_pipeline,
    tiny_settings=FluxSettings(resolution=32, max_sequence_length=16),
)
"""Layers as diffusers' LoRA scripts and Flow-GRPO adapt them: attention of both kinds of blocks, and feed-forward."""
FLUX_KONTEXT = replace(
    FLUX,
    kind="flux_kontext",
    pipelines=(FluxKontextPipeline,),
    given={"image": latents},
    miniature=tiny_kontext,
    tiny_settings=FluxKontextSettings(resolution=32, max_sequence_length=16),
)
