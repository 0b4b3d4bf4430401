"""Lumina Image 2 (arXiv:2503.21758): rectified flow by one stream of texts and patches.

The network's time is 1 - t, and its answer x0 - noise. A text stands behind an instruction, the negative prompt alone;
what guidance gives has in each row of pixels the length that it has with the prompt.
"""

from __future__ import annotations

from typing import Any

from diffusers import Lumina2Pipeline
from torch import Tensor

from limner.core.types import Condition
from limner.models.honoured import Honoured, require_equal, require_parts
from limner.models.lumina2.build import tiny_pipeline
from limner.models.lumina2.settings import Lumina2Settings
from limner.models.parts import equal_times
from limner.models.piped import Family, Piped

TRANSFORMER = Honoured(
    classes=("Lumina2Transformer2DModel",),
    free=frozenset(
        "axes_dim_rope axes_lens cap_feat_dim ffn_dim_multiplier hidden_size in_channels multiple_of norm_eps "
        "num_attention_heads num_kv_heads num_layers num_refiner_layers sample_size scaling_factor".split()
    ),
    only={"out_channels": (None,), "patch_size": (2,)},
)


def require(pipeline: Any, settings: Lumina2Settings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, TRANSFORMER)
    width = pipeline.text_encoder.config.hidden_size
    require_equal(
        "transformer has cap_feat_dim", pipeline.transformer.config.cap_feat_dim, "the text encoder gives", width
    )


def embed(pipeline: Any, settings: Lumina2Settings, texts: list[str]) -> dict[str, Tensor]:
    """Return the states of the language model's last layer but one, behind the instruction, and which there are."""
    context, mask, *_ = pipeline.encode_prompt(
        texts,
        do_classifier_free_guidance=False,
        device=pipeline.text_encoder.device,
        max_sequence_length=settings.max_sequence_length,
    )
    return {"context": context, "mask": mask.bool()}


def embed_negative(pipeline: Any, settings: Lumina2Settings, texts: list[str]) -> dict[str, Tensor]:
    """Return the same of texts that stand alone."""
    *_, context, mask = pipeline.encode_prompt(
        texts,
        negative_prompt=texts,
        device=pipeline.text_encoder.device,
        max_sequence_length=settings.max_sequence_length,
    )
    return {"context": context, "mask": mask.bool()}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the velocity, noise - x0: what the transformer gives, the other way round."""
    (found,) = model.networks["transformer"](
        hidden_states=x,
        timestep=1 - t,
        encoder_hidden_states=rows["context"],
        encoder_attention_mask=rows["mask"],
        return_dict=False,
    )
    return -found


def rescaled(guided: Tensor, with_prompt: Tensor) -> Tensor:
    """Return what guidance gives with each row of pixels as long as with the prompt, as `cfg_normalization` has it."""
    return guided * with_prompt.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True)


LUMINA2 = Family(
    kind="lumina2",
    pipelines=(Lumina2Pipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    embed_negative=embed_negative,
    predict=predict,
    rescaled=rescaled,
    # The pipeline takes the number of channels for that of tokens, where the shift follows them.
    times=lambda pipeline, steps, grid, _: equal_times(pipeline, steps, grid, pipeline.transformer.config.in_channels),
    lora_targets=("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
    miniature=tiny_pipeline,
    tiny_settings=Lumina2Settings(resolution=32, max_sequence_length=220),
)
