"""HunyuanVideo (arXiv:2412.03603): rectified flow by a transformer over text and clip.

The network is distilled for guidance: it is told a scale, and gives the guided velocity in one evaluation. Guidance of
the sampler is diffusers' `true_cfg_scale`, on top of that.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import HunyuanVideoPipeline
from torch import Tensor

from limner.core.types import Condition
from limner.models.clips import decode, encode, latent_frames
from limner.models.honoured import Honoured, require_equal, require_parts
from limner.models.hunyuan_video.build import tiny_pipeline
from limner.models.hunyuan_video.settings import HunyuanVideoSettings
from limner.models.parts import JOINT_ATTENTION, equal_times
from limner.models.piped import Family, Piped

TRANSFORMER = Honoured(
    classes=("HunyuanVideoTransformer3DModel",),
    free=frozenset(
        "attention_head_dim guidance_embeds in_channels mlp_ratio num_attention_heads num_layers num_refiner_layers "
        "num_single_layers out_channels pooled_projection_dim qk_norm rope_axes_dim rope_theta "
        "text_embed_dim".split()
    ),
    only={"image_condition_type": (None,), "patch_size": (2,), "patch_size_t": (1,)},
)
AUTOENCODER = Honoured(
    classes=("AutoencoderKLHunyuanVideo",),
    free=frozenset(
        "act_fn block_out_channels down_block_types latent_channels layers_per_block mid_block_add_attention "
        "norm_num_groups scaling_factor spatial_compression_ratio temporal_compression_ratio up_block_types".split()
    ),
    only={"in_channels": (3,), "out_channels": (3,)},
    numbers=frozenset({"scaling_factor"}),
)


def require(pipeline: Any, settings: HunyuanVideoSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, TRANSFORMER, AUTOENCODER)
    has = pipeline.transformer.config
    context, pooled = pipeline.text_encoder.config.hidden_size, pipeline.text_encoder_2.config.hidden_size
    require_equal("transformer has out_channels", has.out_channels, "it has in_channels", has.in_channels)
    require_equal("transformer has text_embed_dim", has.text_embed_dim, "the text encoder gives", context)
    require_equal("transformer has pooled_projection_dim", has.pooled_projection_dim, "text_encoder_2 gives", pooled)


def embed(pipeline: Any, settings: HunyuanVideoSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return the language model's states of each text behind its instruction, which there are, and CLIP's pooled."""
    context, pooled, mask = pipeline.encode_prompt(
        texts, device=pipeline.text_encoder.device, max_sequence_length=settings.max_sequence_length
    )
    return {"context": context, "pooled": pooled, "mask": mask.bool()}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's velocity, noise - x0."""
    guided = model.pipeline.transformer.config.guidance_embeds
    (velocity,) = model.networks["transformer"](
        hidden_states=x,
        timestep=t * model.pipeline.scheduler.config.num_train_timesteps,
        encoder_hidden_states=rows["context"],
        encoder_attention_mask=rows["mask"].to(x.dtype),
        pooled_projections=rows["pooled"],
        guidance=torch.full_like(t, 1000 * model.settings.guidance) if guided else None,
        return_dict=False,
    )
    return velocity


HUNYUAN_VIDEO = Family(
    kind="hunyuan_video",
    pipelines=(HunyuanVideoPipeline,),
    parts=("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae"),
    require=require,
    embed=embed,
    predict=predict,
    own=lambda pipeline: (720, 1280),
    cell=lambda pipeline: pipeline.vae_scale_factor_spatial,
    frames=lambda pipeline, settings: (latent_frames(settings.num_frames, pipeline.vae_scale_factor_temporal),),
    times=equal_times,
    decode=decode,
    encode=encode,
    lora_targets=JOINT_ATTENTION,
    miniature=tiny_pipeline,
    tiny_settings=HunyuanVideoSettings(resolution=32, num_frames=5, fps=8.0, max_sequence_length=64),
)
