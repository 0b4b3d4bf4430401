"""AnimateDiff (arXiv:2307.04725): Stable Diffusion 1.5 with attention over frames between its layers.

A folder is what `AnimateDiffPipeline.save_pretrained` wrote of a base and a motion adapter: its UNet holds both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers import AnimateDiffPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Videos
from limner.core.types import Condition
from limner.models.animatediff.build import tiny_pipeline
from limner.models.animatediff.settings import AnimateDiffSettings
from limner.models.chain import CHAIN, chain, chain_times, level
from limner.models.honoured import UNSHIFTED, Honoured, require_equal
from limner.models.lora import OF_PIPELINE
from limner.models.parts import seen, shown
from limner.models.picture import sides
from limner.models.piped import Family, Piped

UNET = Honoured(
    classes=("UNetMotionModel",),
    free=frozenset(
        "act_fn block_out_channels cross_attention_dim down_block_types downsample_padding in_channels "
        "layers_per_block mid_block_layers mid_block_scale_factor motion_max_seq_length motion_num_attention_heads "
        "norm_eps norm_num_groups num_attention_heads out_channels reverse_motion_num_attention_heads "
        "reverse_temporal_transformer_layers_per_block reverse_transformer_layers_per_block sample_size "
        "temporal_transformer_layers_per_block temporal_transformer_layers_per_mid_block "
        "transformer_layers_per_block transformer_layers_per_mid_block up_block_types use_linear_projection "
        "use_motion_mid_block".split()
    ),
    only={
        "addition_embed_type": (None,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "time_cond_proj_dim": (None,),  # guidance as an input, of distilled networks
    },
    idle=frozenset({"addition_time_embed_dim", "projection_class_embeddings_input_dim"}),
)


def own(pipeline: Any) -> tuple[int, int]:
    """Return height and width that the network was trained on."""
    return (pipeline.unet.config.sample_size * pipeline.vae_scale_factor,) * 2


def require(pipeline: Any, settings: AnimateDiffSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    CHAIN.require("scheduler", pipeline.scheduler)
    UNET.require("unet", pipeline.unet)
    UNSHIFTED.require("vae", pipeline.vae)
    has, latent = pipeline.unet.config, pipeline.vae.config.latent_channels
    width, places = pipeline.text_encoder.config.hidden_size, has.motion_max_seq_length
    require_equal("unet has in_channels", has.in_channels, "the vae has latent_channels", latent)
    require_equal("unet has out_channels", has.out_channels, "the vae has latent_channels", latent)
    require_equal("unet has cross_attention_dim", has.cross_attention_dim, "the text encoder gives", width)
    halvings = 2 ** (len(has.block_out_channels) - 1)
    sides(settings.resolution, settings.width, own(pipeline), pipeline.vae_scale_factor * halvings)
    if settings.num_frames > places:
        raise UserError(f"model: num_frames is {settings.num_frames}; the motion modules have places for {places}")


def embed(pipeline: Any, settings: AnimateDiffSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return CLIP's states of each text."""
    return {"context": pipeline.encode_prompt(texts, pipeline.text_encoder.device, 1, False)[0]}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the UNet's prediction at the chain's level nearest to t; each frame reads the text."""
    (found,) = model.networks["unet"](
        x,
        level(model.schedule, t),
        encoder_hidden_states=rows["context"].repeat_interleave(x.shape[2], dim=0),
        return_dict=False,
    )
    return found


def decode(model: Piped, sample: Tensor) -> Videos:
    """Return the clips whose frames the autoencoder decodes, each by itself."""
    vae, frames = model.pipeline.vae, sample.movedim(1, 2)
    pixels = shown(vae, frames.flatten(0, 1) / vae.config.scaling_factor, model.cell**2 * sample[0, 0, 0].numel())
    return Videos(pixels.unflatten(0, frames.shape[:2]), model.settings.fps)


def encode(model: Piped, frames: Tensor) -> Tensor:
    """Return the latents of clips, frame by frame."""
    latents = seen(model.pipeline.vae, frames.flatten(0, 1)) * model.pipeline.vae.config.scaling_factor
    return latents.float().unflatten(0, frames.shape[:2]).movedim(1, 2)


def save_lora(pipeline: Any, folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a LoRA of the UNet as `pipeline.load_lora_weights(folder)` reads it."""
    layers = convert_state_dict_to_diffusers(dict(tensors))
    pipeline.save_lora_weights(folder, unet_lora_layers=layers, unet_lora_adapter_metadata=metadata)


ANIMATEDIFF = Family(
    kind="animatediff",
    pipelines=(AnimateDiffPipeline,),
    trained="unet",
    parts=("scheduler", "text_encoder", "tokenizer", "unet", "vae"),
    without={"image_encoder": None, "feature_extractor": None, "motion_adapter": None},
    require=require,
    embed=embed,
    predict=predict,
    own=own,
    patch=1,
    frames=lambda pipeline, settings: (settings.num_frames,),
    channels=lambda pipeline: pipeline.unet.config.in_channels,
    chain=lambda pipeline: chain(pipeline.scheduler),
    times=lambda pipeline, steps, grid, _: chain_times(pipeline.scheduler, steps, grid),
    decode=decode,
    encode=encode,
    lora=replace(OF_PIPELINE, save=save_lora),
    lora_targets=("to_q", "to_k", "to_v", "to_out.0"),
    miniature=tiny_pipeline,
    tiny_settings=AnimateDiffSettings(resolution=32, num_frames=3),
)
