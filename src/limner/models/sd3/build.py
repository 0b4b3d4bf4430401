"""Build an SD3 pipeline of any size from nothing: the base models of worlds, and the miniatures of tests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

from limner.core.types import Vocabulary
from limner.models.autoencoder import small_autoencoder, tiny_autoencoder
from limner.models.clip import projecting_encoder, word_tokenizer
from limner.models.t5 import letter_tokenizer, t5_encoder


@dataclass(frozen=True)
class SD3Size:
    """The sizes of an SD3 pipeline with two CLIP text encoders and no T5.

    The picture is `8 x latent_size` pixels wide, and the transformer sees `(latent_size / 2)^2` tokens.
    """

    vocabulary: Vocabulary
    latent_size: int = 8
    latent_channels: int = 8
    autoencoder_channels: tuple[int, int, int, int] = (8, 16, 32, 64)
    layers: int = 5
    heads: int = 4
    head_width: int = 32
    text_width: int = 64
    text_layers: int = 2
    shift: float = 3.0

    @property
    def width(self) -> int:
        return self.heads * self.head_width


def build(size: SD3Size, seed: int = 0) -> StableDiffusion3Pipeline:
    """Return a randomly initialised pipeline: two text encoders, whose states and projections sit side by side."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        known = size.vocabulary
        tokenizer = word_tokenizer(known.words, known.max_length, known.alone)
        transformer = SD3Transformer2DModel(
            sample_size=size.latent_size,
            patch_size=2,
            in_channels=size.latent_channels,
            out_channels=size.latent_channels,
            num_layers=size.layers,
            attention_head_dim=size.head_width,
            num_attention_heads=size.heads,
            joint_attention_dim=2 * size.text_width,
            caption_projection_dim=size.width,
            pooled_projection_dim=2 * size.text_width,
            pos_embed_max_size=size.latent_size,
            qk_norm="rms_norm",
        )
        autoencoder = small_autoencoder(size.autoencoder_channels, size.latent_channels, size.latent_size)
        encoders = [projecting_encoder(tokenizer, size.text_width, size.text_layers) for _ in range(2)]
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=size.shift),
        vae=autoencoder,
        text_encoder=encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def tiny_pipeline(seed: int = 0) -> StableDiffusion3Pipeline:
    """Return SD3.5-medium in miniature, random weights: T5, normalised queries and keys, second attention, 16 channels.

    As in the original, the CLIP states are narrower than T5's and are padded. Pictures are 32 x 32.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer, tokenizer_3 = word_tokenizer(("red", "star"), 16), letter_tokenizer(512)
        transformer = SD3Transformer2DModel(
            sample_size=4,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=112,
            caption_projection_dim=32,
            pooled_projection_dim=96,
            pos_embed_max_size=8,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        )
        return StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=tiny_autoencoder(16, 1.5305, 0.0609),
            text_encoder=projecting_encoder(tokenizer, 32, 2),
            tokenizer=tokenizer,
            text_encoder_2=projecting_encoder(tokenizer, 64, 2),
            tokenizer_2=tokenizer,
            text_encoder_3=t5_encoder(tokenizer_3, 112),
            tokenizer_3=tokenizer_3,
        )
