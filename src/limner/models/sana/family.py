"""SANA (arXiv:2410.10629): rectified flow by linear attention over the latents of a deep autoencoder.

A text is encoded within an instruction to a language model, the negative prompt as it is.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, SanaPipeline
from torch import Tensor

from limner.core.media import Images
from limner.core.types import Condition
from limner.models.honoured import FLOW, FLOW_SIGMAS, Honoured, require_equal
from limner.models.parts import at_once, flow_times, shown
from limner.models.piped import Family, Piped
from limner.models.sana.build import tiny_pipeline
from limner.models.sana.settings import SanaSettings, SanaSprintSettings

INSTRUCTION = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
"""What the pipeline tells the language model before a prompt."""
TRANSFORMER = Honoured(
    classes=("SanaTransformer2DModel",),
    free=frozenset(
        "attention_bias attention_head_dim caption_channels cross_attention_dim cross_attention_head_dim in_channels "
        "interpolation_scale mlp_ratio norm_elementwise_affine norm_eps num_attention_heads num_cross_attention_heads "
        "num_layers out_channels patch_size qk_norm sample_size timestep_scale".split()
    ),
    only={"guidance_embeds": (False,)},  # of SANA-Sprint
    idle=frozenset({"dropout", "guidance_embeds_scale"}),
)
AUTOENCODER = Honoured(
    classes=("AutoencoderDC",),
    free=frozenset(
        "attention_head_dim decoder_act_fns decoder_block_out_channels decoder_block_types decoder_conv_act_fn "
        "decoder_in_shortcut decoder_layers_per_block decoder_norm_types decoder_qkv_multiscales downsample_block_type "
        "encoder_block_out_channels encoder_block_types encoder_layers_per_block encoder_out_shortcut "
        "encoder_qkv_multiscales latent_channels scaling_factor upsample_block_type".split()
    ),
    only={"in_channels": (3,)},
)
SOLVER = Honoured(
    classes=("DPMSolverMultistepScheduler",),
    free=frozenset({"flow_shift", "num_train_timesteps"}),
    only={**FLOW_SIGMAS, "use_lu_lambdas": (False,), "variance_type": (None,)},
    idle=frozenset(  # how diffusers' own solver steps, and chains of other models
        "algorithm_type beta_end beta_schedule beta_start dynamic_thresholding_ratio euler_at_final "
        "lambda_min_clipped lower_order_final rescale_betas_zero_snr sample_max_value solver_order solver_type "
        "steps_offset time_shift_type timestep_spacing trained_betas".split()
    ),
)


def solves(pipeline: Any) -> bool:
    """Whether the pipeline steps by a solver, whose network is told whole numbers of thousandths."""
    return isinstance(pipeline.scheduler, DPMSolverMultistepScheduler)


def require(pipeline: Any, settings: SanaSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    (SOLVER if solves(pipeline) else FLOW).require("scheduler", pipeline.scheduler)
    TRANSFORMER.require("transformer", pipeline.transformer)
    require_fit(pipeline)


def require_fit(pipeline: Any) -> None:
    """Raise UserError for an autoencoder that is not honoured, and parts that do not fit each other."""
    AUTOENCODER.require("vae", pipeline.vae)
    has, latent = pipeline.transformer.config, pipeline.vae.config.latent_channels
    width = pipeline.text_encoder.config.hidden_size
    require_equal("transformer has in_channels", has.in_channels, "the vae has latent_channels", latent)
    require_equal("transformer has out_channels", has.out_channels or latent, "the vae has latent_channels", latent)
    require_equal("transformer has caption_channels", has.caption_channels, "the text encoder gives", width)


def embed(pipeline: Any, settings: SanaSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return the language model's last states of each text after the instruction, and which of them there are."""
    return encoded(pipeline, settings, texts, INSTRUCTION, do_classifier_free_guidance=False)


def embed_negative(pipeline: Any, settings: SanaSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return the same of texts as they are."""
    return encoded(pipeline, settings, texts, None, do_classifier_free_guidance=False)


def encoded(
    pipeline: Any,
    settings: SanaSettings | SanaSprintSettings,
    texts: list[str],
    instruction: list[str] | None,
    **asked: Any,
) -> dict[str, Tensor]:
    """Return what a pipeline's own encoding makes of texts, as it is `asked`, and which tokens there are."""
    context, mask, *_ = pipeline.encode_prompt(
        texts,
        **asked,
        device=pipeline.text_encoder.device,
        max_sequence_length=settings.max_sequence_length,
        complex_human_instruction=instruction,
    )
    return {"context": context, "mask": mask.bool()}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's velocity, noise - x0."""
    level = t * model.pipeline.scheduler.config.num_train_timesteps
    if solves(model.pipeline):
        level = level.floor()
    (velocity,) = model.networks["transformer"](
        x,
        encoder_hidden_states=rows["context"],
        encoder_attention_mask=rows["mask"],
        timestep=level * model.pipeline.transformer.config.timestep_scale,
        return_dict=False,
    )
    return velocity


def times(pipeline: Any, steps: int, equal: bool, tokens: int) -> Tensor:
    """Return the scheduler's sigmas; a solver's are equal before their shift in any case."""
    if not solves(pipeline):
        return flow_times(pipeline.scheduler, steps, equal, tokens)
    scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(steps)
    return scheduler.sigmas


def decode(model: Piped, sample: Tensor) -> Images:
    """Return the pictures that the autoencoder decodes."""
    vae = model.pipeline.vae
    return Images(shown(vae, sample / vae.config.scaling_factor, model.cell**2 * sample[0, 0].numel()))


def encode(model: Piped, frames: Tensor) -> Tensor:
    """Return the latents of pictures: the autoencoder has no noise."""
    vae, pixels = model.pipeline.vae, 2 * frames[:, 0].to(model.pipeline.vae.device, model.pipeline.vae.dtype) - 1
    parts = pixels.split(at_once(vae.device, pixels[0, 0].numel()))
    return vae.config.scaling_factor * torch.cat([vae.encode(part).latent for part in parts])


SANA = Family(
    kind="sana",
    pipelines=(SanaPipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    embed_negative=embed_negative,
    predict=predict,
    own=lambda pipeline: (1024, 1024),
    patch=1,
    times=lambda pipeline, steps, grid, tokens: times(pipeline, steps, grid == "linear", tokens),
    decode=decode,
    encode=encode,
    lora_targets=("to_q", "to_k", "to_v", "to_out.0"),
    miniature=tiny_pipeline,
    tiny_settings=SanaSettings(resolution=32, max_sequence_length=24),
)
