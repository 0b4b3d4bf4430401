"""Build a Wan pipeline of any size from nothing: the base models of worlds, and the miniatures of tests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from limner.core.types import Vocabulary
from limner.models.t5 import letter_tokenizer, umt5_encoder

QUIET = -9.0
"""Log variance that posteriors begin with: a std of 0.01. Means differ by 0.02 between clips; noise of 1 hides that."""


@dataclass(frozen=True)
class WanSize:
    """The sizes of a Wan pipeline.

    The autoencoder takes 2 x 2 pixels for one, as that of Wan 2.2 does, so that no convolution runs at full resolution;
    then it halves height, width and frames. A clip of 13 frames of 32 x 32 is 7 latents of 8 x 8, and the transformer
    takes four neighbours of a latent for one token: 112 in all.
    """

    vocabulary: Vocabulary
    latent_channels: int = 8
    encoder_channels: int = 8
    decoder_channels: int = 16
    layers: int = 5
    heads: int = 4
    head_width: int = 32
    text_width: int = 64
    text_layers: int = 2
    shift: float = 3.0

    @property
    def width(self) -> int:
        return self.heads * self.head_width


def build(size: WanSize, seed: int = 0) -> WanPipeline:
    """Return a randomly initialised pipeline that samples by Euler steps."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = letter_tokenizer(size.vocabulary.max_length, size.vocabulary.words)
        transformer = WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=size.heads,
            attention_head_dim=size.head_width,
            in_channels=size.latent_channels,
            out_channels=size.latent_channels,
            text_dim=size.text_width,
            freq_dim=size.width // 2,
            ffn_dim=3 * size.width,
            num_layers=size.layers,
            rope_max_seq_len=32,
        )
        autoencoder = AutoencoderKLWan(
            base_dim=size.encoder_channels,
            decoder_base_dim=size.decoder_channels,
            z_dim=size.latent_channels,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[True],
            latents_mean=[0.0] * size.latent_channels,
            latents_std=[1.0] * size.latent_channels,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            scale_factor_temporal=2,
            scale_factor_spatial=4,
        )
        nn.init.constant_(autoencoder.quant_conv.bias[size.latent_channels :], QUIET)
        encoder = umt5_encoder(tokenizer, size.text_width, size.text_layers)
    return WanPipeline(tokenizer, encoder, autoencoder, FlowMatchEulerDiscreteScheduler(shift=size.shift), transformer)


def tiny_pipeline(seed: int = 0) -> WanPipeline:
    """Return Wan 2.1 in miniature, random weights: its patches, its three halvings, its latent statistics and solver.

    Clips are of 32 x 32 pixels at least, and of 4 n + 1 frames.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = letter_tokenizer(512)
        transformer = WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=16,
            freq_dim=16,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=64,
        )
        return WanPipeline(
            tokenizer,
            umt5_encoder(tokenizer, 16, 1),
            AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
            UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
            transformer,
        )


def tiny_experts() -> WanPipeline:
    """Return the 14B of Wan 2.2 in miniature: two transformers, the first for t of .875 and above."""
    both = {"transformer": tiny_pipeline().transformer, "transformer_2": tiny_pipeline(1).transformer}
    return WanPipeline(**(tiny_pipeline().components | both), boundary_ratio=0.875)


def tiny_beside() -> WanImageToVideoPipeline:
    """Return that of image to video: two transformers, which read mask and first frame beside the noise."""
    base = tiny_pipeline()
    names = ("transformer", "transformer_2")
    both = {name: WanTransformer3DModel.from_config(base.transformer.config, in_channels=36) for name in names}
    return WanImageToVideoPipeline(**(base.components | both), boundary_ratio=0.9)


def tiny_seeing(places: int | None = None) -> WanImageToVideoPipeline:
    """Return the 14B of image to video of Wan 2.1: it also reads what CLIP sees in the first frame, five tokens.

    With `places` for the tokens of two pictures it is that of first and last frame.
    """
    base = tiny_pipeline()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        width = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        seen = CLIPVisionModel(CLIPVisionConfig(**width, image_size=224, patch_size=112))
        inner = base.transformer.config.num_attention_heads * base.transformer.config.attention_head_dim
        more = {"in_channels": 36, "image_dim": 8, "added_kv_proj_dim": inner, "pos_embed_seq_len": places}
        network = WanTransformer3DModel.from_config(base.transformer.config, **more)
        if places is not None:
            nn.init.normal_(network.condition_embedder.image_embedder.pos_embed)
    parts = base.components | {"transformer": network, "image_encoder": seen}
    return WanImageToVideoPipeline(**parts, image_processor=CLIPImageProcessor())


def tiny_of_times() -> WanPipeline:
    """Return one that reads the time at each token, as the 5B of Wan 2.2 does."""
    return WanPipeline(**tiny_pipeline().components, expand_timesteps=True)
