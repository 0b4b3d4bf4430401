"""Wan's transformers: which of two predicts at a time, and what each is told of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from jaxtyping import Float
from torch import Tensor, nn

BOTH = ("transformer", "transformer_2")
"""The experts of the noisy times and of the others."""
READ: Mapping[str, str] = {
    "transformer": "pipe.load_lora_weights({place})",
    "transformer_2": 'pipe.load_lora_weights({place}, weight_name="transformer_2/pytorch_lora_weights.safetensors",\n'
    "                       load_into_transformer_2=True)",
}
"""The line by which `pipe` reads the LoRA of each: with `subfolder` diffusers takes the first one's file again."""


def velocity(
    pipeline: WanPipeline | WanImageToVideoPipeline,
    networks: Mapping[str, nn.Module],
    read: Float[Tensor, "rows channels times height width"],
    level: Float[Tensor, " rows"],
    asked: Mapping[str, Tensor],
) -> Float[Tensor, "rows *latent"]:
    """Return what the transformer predicts of what it is to `read`, or, of two, for each row that of its level."""
    if pipeline.config.boundary_ratio is None:
        return _of_one(pipeline, networks["transformer"], read, level, asked)
    early = level >= pipeline.config.boundary_ratio * pipeline.scheduler.config.num_train_timesteps
    channels = pipeline.transformer.config.out_channels
    found = read.new_zeros((len(read), channels, *read.shape[2:]), dtype=torch.float32)
    for name, rows in zip(BOTH, (early, ~early), strict=True):
        if len(mine := read[rows]):
            some = {key: value[rows] for key, value in asked.items()}
            found[rows] = _of_one(pipeline, networks[name], mine, level[rows], some)
    return found


def _of_one(
    pipeline: WanPipeline | WanImageToVideoPipeline,
    network: nn.Module,
    read: Float[Tensor, "rows channels times height width"],
    level: Float[Tensor, " rows"],
    asked: Mapping[str, Tensor],
) -> Float[Tensor, "rows *latent"]:
    """Return what one expert predicts; the 5B of Wan 2.2 reads the time at each token, 0 where a frame is given."""
    if pipeline.config.expand_timesteps:
        patch = pipeline.transformer.config.patch_size
        level = level[:, None].repeat(1, math.prod(read.shape[2:]) // math.prod(patch))
        if isinstance(pipeline, WanImageToVideoPipeline):
            level[:, : math.prod(read.shape[3:]) // math.prod(patch[1:])] = 0
    (predicted,) = network(hidden_states=read, timestep=level, **asked, return_dict=False)
    return predicted.float()
