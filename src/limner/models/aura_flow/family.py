"""AuraFlow (fal, 2024): rectified flow by a transformer over text and picture; states of padding are zeros."""

from __future__ import annotations

from typing import Any

from diffusers import AuraFlowPipeline
from torch import Tensor

from limner.core.types import Condition
from limner.models.aura_flow.build import tiny_pipeline
from limner.models.aura_flow.settings import AuraFlowSettings
from limner.models.honoured import UNSHIFTED, Honoured, require_equal, require_parts
from limner.models.parts import JOINT_ATTENTION
from limner.models.piped import Family, Piped

TRANSFORMER = Honoured(
    classes=("AuraFlowTransformer2DModel",),
    free=frozenset(
        "attention_head_dim caption_projection_dim in_channels joint_attention_dim num_attention_heads "
        "num_mmdit_layers num_single_dit_layers out_channels pos_embed_max_size sample_size".split()
    ),
    only={"patch_size": (2,)},
)


def require(pipeline: Any, settings: AuraFlowSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, TRANSFORMER, UNSHIFTED)
    has, width = pipeline.transformer.config, pipeline.text_encoder.config.d_model
    require_equal("transformer has out_channels", has.out_channels, "it has in_channels", has.in_channels)
    require_equal("transformer has joint_attention_dim", has.joint_attention_dim, "the text encoder gives", width)


def embed(pipeline: Any, settings: AuraFlowSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return T5's states of each text."""
    context, *_ = pipeline.encode_prompt(
        texts,
        do_classifier_free_guidance=False,
        device=pipeline.text_encoder.device,
        max_sequence_length=settings.max_sequence_length,
    )
    return {"context": context}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's velocity, noise - x0."""
    (velocity,) = model.networks["transformer"](x, encoder_hidden_states=rows["context"], timestep=t, return_dict=False)
    return velocity


AURA_FLOW = Family(
    kind="aura_flow",
    pipelines=(AuraFlowPipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    predict=predict,
    own=lambda pipeline: (pipeline.transformer.config.sample_size * pipeline.vae_scale_factor,) * 2,
    lora_targets=JOINT_ATTENTION,
    miniature=tiny_pipeline,
    tiny_settings=AuraFlowSettings(resolution=32, max_sequence_length=16),
)
