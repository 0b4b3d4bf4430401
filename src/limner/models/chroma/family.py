"""Chroma (lodestones, 2025): FLUX.1 schnell with its modulation made by one small network, and words by T5 alone.

A mask tells words, and the first token of padding, from the rest: as diffusers has it, attention to them gains a nat.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import ChromaPipeline
from torch import Tensor

from limner.core.transfer import sent
from limner.core.types import Condition
from limner.models.chroma.build import tiny_pipeline
from limner.models.chroma.settings import ChromaSettings
from limner.models.honoured import Honoured, require_equal, require_parts
from limner.models.packing import packed, places, unpacked
from limner.models.parts import JOINT_ATTENTION, equal_times
from limner.models.piped import Family, Piped

TRANSFORMER = Honoured(
    classes=("ChromaTransformer2DModel",),
    free=frozenset(
        "approximator_hidden_dim approximator_layers approximator_num_channels attention_head_dim axes_dims_rope "
        "in_channels joint_attention_dim num_attention_heads num_layers num_single_layers".split()
    ),
    only={"out_channels": (None,), "patch_size": (1,)},
)


def require(pipeline: Any, settings: ChromaSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, TRANSFORMER, cells=4)
    has = pipeline.transformer.config
    width = pipeline.text_encoder.config.d_model
    require_equal("transformer has joint_attention_dim", has.joint_attention_dim, "the text encoder gives", width)


def embed(pipeline: Any, settings: ChromaSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return T5's states of each text, and which of them the network sees."""
    context, _, mask, *_ = pipeline.encode_prompt(
        texts,
        do_classifier_free_guidance=False,
        device=pipeline.text_encoder.device,
        max_sequence_length=settings.max_sequence_length,
    )
    return {"context": context, "mask": mask.bool()}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's velocity, noise - x0."""
    network, tokens, size = model.networks["transformer"], packed(x), (x.shape[-2], x.shape[-1])
    seen = torch.cat([rows["mask"].to(x.dtype), x.new_ones(len(x), tokens.shape[1])], dim=1)
    with masked_where_recomputed(network, seen):
        (velocity,) = network(
            hidden_states=tokens,
            timestep=t,
            encoder_hidden_states=rows["context"],
            txt_ids=x.new_zeros(rows["context"].shape[1], 3),
            img_ids=sent(places(size), x.device).to(x),
            attention_mask=seen,
            return_dict=False,
        )
    return unpacked(velocity, size)


@contextmanager
def masked_where_recomputed(network: Any, seen: Tensor) -> Iterator[None]:
    """Hand the mask on to the blocks of one stream: diffusers 0.42 leaves it out where activations are recomputed."""
    if not network.gradient_checkpointing:
        yield
        return
    run, single = network._gradient_checkpointing_func, set(network.single_transformer_blocks)

    def masked(block: Any, *inputs: Any) -> Any:
        return run(block, *inputs, attention_mask=seen) if block in single else run(block, *inputs)

    network._gradient_checkpointing_func = masked
    try:
        yield
    finally:
        network._gradient_checkpointing_func = run


CHROMA = Family(
    kind="chroma",
    pipelines=(ChromaPipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    without={"image_encoder": None, "feature_extractor": None},
    require=require,
    embed=embed,
    predict=predict,
    channels=lambda pipeline: pipeline.transformer.config.in_channels // 4,
    times=equal_times,
    lora_targets=JOINT_ATTENTION,
    miniature=tiny_pipeline,
    tiny_settings=ChromaSettings(resolution=32, max_sequence_length=16),
)
