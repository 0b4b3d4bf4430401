"""Wan's autoencoder on whole clips, in one pass.

diffusers walks through a clip four frames at a time and keeps the last frames that each convolution saw, which bounds
memory. The convolutions are causal, so one pass gives the same numbers, for small clips in two thirds of the time; and
what is decoded is not clamped here, so that gradients reach values outside the range.

Source: Wan, arXiv:2503.20314, section 4.1 (causal convolutions; the first frame is a latent of its own).
"""

from __future__ import annotations

from typing import cast

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanDecoder3d,
    WanEncoder3d,
    WanResample,
    WanResidualDownBlock,
    WanResidualUpBlock,
    WanUpBlock,
    patchify,
    unpatchify,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float
from torch import Tensor, nn


def encode(vae: AutoencoderKLWan, pixels: Float[Tensor, "batch 3 frames height width"]) -> DiagonalGaussianDistribution:
    """Return the posterior of clips in [-1, 1]: `vae.encode(pixels).latent_dist`."""
    encoder = vae.encoder
    x = encoder.conv_in(patchify(pixels, vae.config.patch_size or 1))
    for block in encoder.down_blocks:
        x = _down_block(block, x)
    return DiagonalGaussianDistribution(vae.quant_conv(_head(encoder, encoder.mid_block(x))))


def decode(
    vae: AutoencoderKLWan, latents: Float[Tensor, "batch channels times rows columns"]
) -> Float[Tensor, "batch 3 frames height width"]:
    """Return clips: `vae.decode(latents).sample`, before it is clamped to [-1, 1]."""
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        x = _up_block(cast(WanUpBlock | WanResidualUpBlock, block), x)
    return unpatchify(_head(decoder, x), vae.config.patch_size or 1)


def _head(part: WanEncoder3d | WanDecoder3d, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    return part.conv_out(part.nonlinearity(part.norm_out(x)))


def _down_block(block: nn.Module, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """Apply one of the encoder's blocks: in Wan 2.1 a layer of its own, in 2.2 layers with a shortcut around them."""
    if isinstance(block, WanResample):
        return _halved(block, x)
    if not isinstance(block, WanResidualDownBlock):
        return block(x)
    y = x
    for layer in block.resnets:
        y = layer(y)
    if block.downsampler is not None:
        y = _halved(block.downsampler, y)
    return y + block.avg_shortcut(x)


def _up_block(block: WanUpBlock | WanResidualUpBlock, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """Apply one of the decoder's blocks; those of Wan 2.2 have a shortcut, where they double something."""
    y = x
    for layer in block.resnets:
        y = layer(y)
    if isinstance(block, WanResidualUpBlock):
        if block.upsampler is None:
            return y
        return _doubled(block.upsampler, y) + block.avg_shortcut(x, first_chunk=True)
    return y if block.upsamplers is None else _doubled(block.upsamplers[0], y)


def _halved(layer: WanResample, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """Halve height and width, and the frames after the first where the layer does that."""
    x = _each_frame(layer.resample, x)
    if layer.mode != "downsample3d" or x.shape[2] == 1:
        return x
    return torch.cat([x[:, :, :1], layer.time_conv(x)], dim=2)


def _doubled(layer: WanResample, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """Double height and width, and the frames after the first, which those do not see, where the layer does that."""
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        pairs = layer.time_conv(x[:, :, 1:]).unflatten(1, (2, -1))
        x = torch.cat([x[:, :, :1], pairs.movedim(1, 3).flatten(2, 3)], dim=2)
    return _each_frame(layer.resample, x)


def _each_frame(layer: nn.Module, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    y = layer(x.transpose(1, 2).flatten(0, 1))
    return y.unflatten(0, (x.shape[0], -1)).transpose(1, 2)
