"""Mochi (Genmo, 2024): rectified flow by a transformer over text and clip, both of them in each block.

The network's time is 1 - t in thousandths, and its answer x0 - noise. The first half of a pipeline's steps goes a
fortieth of the way, evenly; the others grow by the square.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import MochiPipeline
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
from torch import Tensor

from limner.core.errors import UserError
from limner.core.types import Condition
from limner.diffusion.timesteps import Grid
from limner.models.clips import decode, encode, latent_frames
from limner.models.honoured import Honoured, require_equal
from limner.models.mochi.build import tiny_pipeline
from limner.models.mochi.settings import MochiSettings
from limner.models.parts import JOINT_ATTENTION
from limner.models.piped import Family, Piped

SLOW = 0.025
"""How far the first half of the steps goes, in the pipeline."""
TRANSFORMER = Honoured(
    classes=("MochiTransformer3DModel",),
    free=frozenset(
        "activation_fn attention_head_dim in_channels max_sequence_length num_attention_heads num_layers "
        "pooled_projection_dim qk_norm text_embed_dim time_embed_dim".split()
    ),
    only={"out_channels": (None,), "patch_size": (2,)},
)
AUTOENCODER = Honoured(
    classes=("AutoencoderKLMochi",),
    free=frozenset(
        "act_fn decoder_block_out_channels encoder_block_out_channels latent_channels latents_mean latents_std "
        "layers_per_block scaling_factor spatial_expansions temporal_expansions".split()
    ),
    only={"in_channels": (15,), "out_channels": (3,), "add_attention_block": ((False, True, True, True, True),
          [False, True, True, True, True])},
    numbers=frozenset({"scaling_factor"}),
)  # fmt: skip
FLOW = Honoured(
    classes=("FlowMatchEulerDiscreteScheduler",),
    free=frozenset({"num_train_timesteps", "shift"}),
    only={
        "invert_sigmas": (True,),
        "shift_terminal": (None,),
        "stochastic_sampling": (False,),
        "use_beta_sigmas": (False,),
        "use_dynamic_shifting": (False,),
        "use_exponential_sigmas": (False,),
        "use_karras_sigmas": (False,),
    },
    idle=frozenset("base_image_seq_len base_shift max_image_seq_len max_shift time_shift_type".split()),
)


def require(pipeline: Any, settings: MochiSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    FLOW.require("scheduler", pipeline.scheduler)
    TRANSFORMER.require("transformer", pipeline.transformer)
    AUTOENCODER.require("vae", pipeline.vae)
    has, latent = pipeline.transformer.config, pipeline.vae.config.latent_channels
    width = pipeline.text_encoder.config.d_model
    require_equal("transformer has in_channels", has.in_channels, "the vae has latent_channels", latent)
    require_equal("transformer has text_embed_dim", has.text_embed_dim, "the text encoder gives", width)


def embed(pipeline: Any, settings: MochiSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return T5's states of each text, one at a time: the pipeline may leave out all that stand with an empty one."""
    found = [
        pipeline.encode_prompt(
            [text],
            do_classifier_free_guidance=False,
            max_sequence_length=settings.max_sequence_length,
            device=pipeline.text_encoder.device,
        )
        for text in texts
    ]
    return {"context": torch.cat([each[0] for each in found]), "mask": torch.cat([each[1] for each in found]).bool()}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the velocity, noise - x0: what the transformer gives, the other way round."""
    (found,) = model.networks["transformer"](
        hidden_states=x,
        encoder_hidden_states=rows["context"],
        timestep=(1 - t) * model.pipeline.scheduler.config.num_train_timesteps,
        encoder_attention_mask=rows["mask"],
        return_dict=False,
    )
    return -found


def times(pipeline: Any, steps: int, grid: Grid, tokens: int) -> Tensor:
    """Return the pipeline's times, or equal ones. Raises UserError for one step, of which there is no half."""
    if grid == "linear":
        return torch.linspace(1, 0, steps + 1)
    if steps < 2:
        raise UserError(f"sampler.steps is {steps}, and Mochi's own times have two halves: give it 2 or more")
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(sigmas=linear_quadratic_schedule(steps, SLOW))
    return 1 - scheduler.sigmas


MOCHI = Family(
    kind="mochi",
    pipelines=(MochiPipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    predict=predict,
    own=lambda pipeline: (pipeline.default_height, pipeline.default_width),
    cell=lambda pipeline: pipeline.vae_spatial_scale_factor,
    frames=lambda pipeline, settings: (latent_frames(settings.num_frames, pipeline.vae_temporal_scale_factor),),
    times=times,
    decode=decode,
    encode=encode,
    lora_targets=tuple(layer.replace("attn", "attn1", 1) for layer in JOINT_ATTENTION),
    miniature=tiny_pipeline,
    tiny_settings=MochiSettings(resolution=32, num_frames=7, fps=8.0, max_sequence_length=16),
)
