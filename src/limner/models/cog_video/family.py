"""CogVideoX (arXiv:2408.06072): diffusion by a transformer over text and clip, whose chain ends in pure noise.

It predicts velocity in the sense of progressive distillation. Frames come first in its latents, channels here.
"""

from __future__ import annotations

from typing import Any

from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline
from torch import Tensor

from limner.core.types import Condition
from limner.models.chain import chain, chain_times, level
from limner.models.clips import decode, encode, latent_frames
from limner.models.cog_video.build import tiny_pipeline
from limner.models.cog_video.settings import CogVideoSettings
from limner.models.honoured import Honoured, require_equal
from limner.models.piped import Family, Piped

TRANSFORMER = Honoured(
    classes=("CogVideoXTransformer3DModel",),
    free=frozenset(
        "activation_fn attention_bias attention_head_dim flip_sin_to_cos freq_shift in_channels max_text_seq_length "
        "norm_elementwise_affine norm_eps num_attention_heads num_layers out_channels patch_bias sample_frames "
        "sample_height sample_width spatial_interpolation_scale temporal_compression_ratio "
        "temporal_interpolation_scale text_embed_dim time_embed_dim timestep_activation_fn "
        "use_rotary_positional_embeddings".split()
    ),
    only={
        "ofs_embed_dim": (None,),  # of a first picture, 1.5
        "patch_size": (2,),
        "patch_size_t": (None,),  # two frames a token, 1.5
        "use_learned_positional_embeddings": (False,),  # of one size, for a first picture
    },
    idle=frozenset({"dropout"}),
)
AUTOENCODER = Honoured(
    classes=("AutoencoderKLCogVideoX",),
    free=frozenset(
        "act_fn block_out_channels down_block_types latent_channels layers_per_block norm_eps norm_num_groups "
        "scaling_factor temporal_compression_ratio up_block_types use_post_quant_conv use_quant_conv".split()
    ),
    only={"in_channels": (3,), "out_channels": (3,), "latents_mean": (None,), "latents_std": (None,),
          "shift_factor": (None,)},
    numbers=frozenset({"scaling_factor"}),
    idle=frozenset({"force_upcast", "invert_scale_latents", "sample_height", "sample_width"}),
)  # fmt: skip
CHAIN = Honoured(
    classes=("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"),
    free=frozenset(
        "beta_end beta_schedule beta_start num_train_timesteps prediction_type rescale_betas_zero_snr "
        "set_alpha_to_one snr_shift_scale steps_offset timestep_spacing trained_betas".split()
    ),
    only={"clip_sample": (False,), "thresholding": (False,)},
    idle=frozenset({"clip_sample_range", "sample_max_value"}),
)
"""Of which DDIM is made, whichever of the two the pipeline's scheduler is: they are one chain."""


def require(pipeline: Any, settings: CogVideoSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    CHAIN.require("scheduler", pipeline.scheduler)
    TRANSFORMER.require("transformer", pipeline.transformer)
    AUTOENCODER.require("vae", pipeline.vae)
    has, latent = pipeline.transformer.config, pipeline.vae.config.latent_channels
    length, width = settings.max_sequence_length, pipeline.text_encoder.config.d_model
    require_equal("transformer has in_channels", has.in_channels, "the vae has latent_channels", latent)
    require_equal("transformer has out_channels", has.out_channels, "the vae has latent_channels", latent)
    require_equal("transformer has text_embed_dim", has.text_embed_dim, "the text encoder gives", width)
    require_equal("transformer has max_text_seq_length", has.max_text_seq_length, "max_sequence_length is", length)


def embed(pipeline: Any, settings: CogVideoSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return T5's states of each text, padding among them."""
    context, _ = pipeline.encode_prompt(
        texts,
        do_classifier_free_guidance=False,
        max_sequence_length=settings.max_sequence_length,
        device=pipeline.text_encoder.device,
    )
    return {"context": context}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's v at the chain's level nearest to t."""
    pipeline, (height, width) = model.pipeline, (model.cell * side for side in x.shape[-2:])
    turns = pipeline.transformer.config.use_rotary_positional_embeddings
    (found,) = model.networks["transformer"](
        hidden_states=x.movedim(1, 2),
        encoder_hidden_states=rows["context"],
        timestep=level(model.schedule, t),
        image_rotary_emb=pipeline._prepare_rotary_positional_embeddings(height, width, x.shape[2], x.device)
        if turns
        else None,
        return_dict=False,
    )
    return found.movedim(1, 2)


COG_VIDEO = Family(
    kind="cog_video",
    pipelines=(CogVideoXPipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    predict=predict,
    own=lambda pipeline: (
        pipeline.transformer.config.sample_height * pipeline.vae_scale_factor_spatial,
        pipeline.transformer.config.sample_width * pipeline.vae_scale_factor_spatial,
    ),
    cell=lambda pipeline: pipeline.vae_scale_factor_spatial,
    frames=lambda pipeline, settings: (latent_frames(settings.num_frames, pipeline.vae_scale_factor_temporal),),
    chain=lambda pipeline: chain(pipeline.scheduler, CogVideoXDDIMScheduler),
    times=lambda pipeline, steps, grid, _: chain_times(pipeline.scheduler, steps, grid, CogVideoXDDIMScheduler),
    decode=decode,
    encode=encode,
    lora_targets=("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"),
    miniature=tiny_pipeline,
    tiny_settings=CogVideoSettings(resolution=32, num_frames=9, fps=8.0, max_sequence_length=16),
)
