"""Build a model of tokens from nothing: the bases of worlds, and the miniatures of tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, VQModel
from transformers import AddedToken, CLIPTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from limner.core.types import Vocabulary
from limner.models.autoencoder import small_autoencoder
from limner.models.clip import word_tokenizer


@dataclass(frozen=True)
class TokensSize:
    """The sizes of a causal decoder over words and codes; a picture is `grid` x `grid` tokens, row by row."""

    vocabulary: Vocabulary
    grid: int = 8
    width: int = 128
    inner: int = 320
    layers: int = 6
    heads: int = 4
    theta: float = 100.0
    """Base of the rotary angles: small, for a sequence is short."""


class TokenParts(NamedTuple):
    """What makes pictures of captions: words to ids, ids to ids, and ids to pixels."""

    tokenizer: CLIPTokenizer
    decoder: LlamaForCausalLM
    vqvae: VQModel


def build(size: TokensSize, vqvae: VQModel, seed: int = 0) -> TokenParts:
    """Return a decoder with random weights for the codes of `vqvae`, and the tokenizer of its one vocabulary.

    A sequence is begin, the words of the caption, end, and then the codes, whose ids follow those of the words. What
    `generate` asks of the decoder stands in its generation_config.json: as many codes as a picture has, and no words.
    """
    known, length = size.vocabulary, size.grid**2
    tokenizer = word_tokenizer(known.words, known.max_length, known.alone)
    first = len(tokenizer)
    tokenizer.add_tokens([AddedToken(f"<code {i}>", special=True) for i in range(vqvae.config.num_vq_embeddings)])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=known.max_length + length,
        rope_parameters={"rope_type": "default", "rope_theta": size.theta},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = LlamaForCausalLM(config)
    decoder.generation_config = GenerationConfig(
        do_sample=True,
        min_new_tokens=length,
        max_new_tokens=length,
        suppress_tokens=[*range(first)],
        bos_token_id=config.bos_token_id,
        pad_token_id=config.pad_token_id,
    )
    return TokenParts(tokenizer, decoder, vqvae)


@torch.no_grad()
def quantised(autoencoder: AutoencoderKL, num_codes: int) -> VQModel:
    """Return a tokenizer that begins as `autoencoder`: its latents are the posterior's means; the codes are random."""
    config, width = autoencoder.config, autoencoder.config.latent_channels
    vqvae = VQModel(
        down_block_types=config.down_block_types,
        up_block_types=config.up_block_types,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        mid_block_add_attention=config.mid_block_add_attention,
        sample_size=config.sample_size,
        latent_channels=width,
        num_vq_embeddings=num_codes,
        scaling_factor=1.0,
    )
    encoder = autoencoder.encoder.state_dict()
    encoder |= {name: encoder[name][:width] for name in ("conv_out.weight", "conv_out.bias")}
    vqvae.encoder.load_state_dict(encoder)
    vqvae.decoder.load_state_dict(autoencoder.decoder.state_dict())
    for same in (vqvae.quant_conv, vqvae.post_quant_conv):
        torch.nn.init.dirac_(same.weight)
        torch.nn.init.zeros_(same.bias)
    return vqvae


def tiny_parts(seed: int = 0) -> TokenParts:
    """Return a miniature with random weights: 16 tokens of 12 codes, pictures of 32 x 32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vqvae = quantised(small_autoencoder((8, 8, 8, 8), 4, 4), 12)
        torch.nn.init.normal_(vqvae.quantize.embedding.weight)
    size = TokensSize(Vocabulary(("red", "star")), grid=4, width=32, inner=48, layers=2, heads=2)
    return build(size, vqvae, seed)
