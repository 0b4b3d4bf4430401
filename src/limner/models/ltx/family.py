"""LTX-Video (arXiv:2501.00103): rectified flow by a transformer over the latents of clips, a token each.

A latent is of 8 frames of 32 x 32 pixels, and of the first frame alone.
"""

from __future__ import annotations

from typing import Any

from diffusers import LTXPipeline
from torch import Tensor

from limner.core.media import Videos
from limner.core.types import Condition
from limner.models.clips import latent_frames
from limner.models.honoured import Honoured, require_equal, require_parts
from limner.models.ltx.build import tiny_pipeline
from limner.models.ltx.settings import LTXSettings
from limner.models.parts import equal_times, seen, shown
from limner.models.piped import Family, Piped

TRANSFORMER = Honoured(
    classes=("LTXVideoTransformer3DModel",),
    free=frozenset(
        "activation_fn attention_bias attention_head_dim attention_out_bias caption_channels cross_attention_dim "
        "in_channels norm_elementwise_affine norm_eps num_attention_heads num_layers out_channels qk_norm".split()
    ),
    only={"patch_size": (1,), "patch_size_t": (1,)},
)
AUTOENCODER = Honoured(
    classes=("AutoencoderKLLTXVideo",),
    free=frozenset(
        "block_out_channels decoder_block_out_channels decoder_causal decoder_layers_per_block "
        "decoder_spatio_temporal_scaling down_block_types downsample_type encoder_causal latent_channels "
        "layers_per_block patch_size patch_size_t resnet_norm_eps scaling_factor spatial_compression_ratio "
        "spatio_temporal_scaling temporal_compression_ratio upsample_factor upsample_residual".split()
    ),
    only={
        "decoder_inject_noise": tuple(kind([False] * n) for kind in (tuple, list) for n in (4, 5)),
        "in_channels": (3,),
        "out_channels": (3,),
        "timestep_conditioning": (False,),  # of a decoder that takes away noise, from 0.9.1 on
    },
    numbers=frozenset({"scaling_factor"}),
)


def require(pipeline: Any, settings: LTXSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, TRANSFORMER, AUTOENCODER)
    has, latent = pipeline.transformer.config, pipeline.vae.config.latent_channels
    width = pipeline.text_encoder.config.d_model
    require_equal("transformer has out_channels", has.out_channels, "the vae has latent_channels", latent)
    require_equal("transformer has caption_channels", has.caption_channels, "the text encoder gives", width)


def embed(pipeline: Any, settings: LTXSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return T5's states of each text, and which of them there are."""
    context, mask, *_ = pipeline.encode_prompt(
        texts,
        do_classifier_free_guidance=False,
        max_sequence_length=settings.max_sequence_length,
        device=pipeline.text_encoder.device,
    )
    return {"context": context, "mask": mask.bool()}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's velocity, noise - x0; places are told in seconds and pixels."""
    frames, height, width = x.shape[-3:]
    pace, cell = model.pipeline.vae_temporal_compression_ratio, model.cell
    (velocity,) = model.networks["transformer"](
        hidden_states=x.flatten(2).mT,
        encoder_hidden_states=rows["context"],
        encoder_attention_mask=rows["mask"],
        timestep=t * model.pipeline.scheduler.config.num_train_timesteps,
        num_frames=frames,
        height=height,
        width=width,
        rope_interpolation_scale=(pace / model.settings.fps, cell, cell),
        return_dict=False,
    )
    return velocity.mT.unflatten(2, (frames, height, width))


def statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Return mean and std of each channel of a latent, the std as the autoencoder's scale has it."""
    std = vae.latents_std / vae.config.scaling_factor
    return vae.latents_mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)


def decode(model: Piped, sample: Tensor) -> Videos:
    """Return the clips that the autoencoder decodes."""
    vae, (mean, std) = model.pipeline.vae, statistics(model.pipeline.vae)
    pixels = model.pipeline.vae_temporal_compression_ratio * model.cell**2 * sample[0, 0].numel()
    return Videos(shown(vae, sample.to(mean) * std + mean, pixels).movedim(1, 2), model.settings.fps)


def encode(model: Piped, frames: Tensor) -> Tensor:
    """Return the latents of clips. Raises UserError for what the autoencoder cannot halve."""
    latent_frames(frames.shape[1], model.pipeline.vae_temporal_compression_ratio, "a clip has frames")
    mean, std = statistics(model.pipeline.vae)
    return (seen(model.pipeline.vae, frames.movedim(2, 1)).float() - mean) / std


LTX = Family(
    kind="ltx",
    pipelines=(LTXPipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    predict=predict,
    own=lambda pipeline: (512, 704),
    cell=lambda pipeline: pipeline.vae_spatial_compression_ratio,
    patch=1,
    frames=lambda pipeline, settings: (latent_frames(settings.num_frames, pipeline.vae_temporal_compression_ratio),),
    times=equal_times,
    decode=decode,
    encode=encode,
    lora_targets=("to_q", "to_k", "to_v", "to_out.0"),
    miniature=tiny_pipeline,
    tiny_settings=LTXSettings(resolution=32, num_frames=9, fps=8.0, max_sequence_length=16),
)
