"""aMUSEd pipelines from nothing: the bases of worlds, and the miniatures of tests."""

from __future__ import annotations

from copy import deepcopy

import torch
from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from limner.models.clip import clip_config, word_tokenizer

CODES, WIDTH = 12, 32


def tiny_pipeline(seed: int = 0) -> AmusedPipeline:
    """Return a pipeline with random weights: 4 x 4 codes of 12, pictures of 8 x 8."""
    tokenizer = word_tokenizer(("red", "star"), 8)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vqvae = VQModel(
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            block_out_channels=[8, 8],
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            num_vq_embeddings=CODES,
            lookup_from_codebook=True,
            mid_block_add_attention=False,
            force_upcast=True,
        )
        torch.nn.init.normal_(vqvae.quantize.embedding.weight)
        transformer = UVit2DModel(
            hidden_size=WIDTH,
            cond_embed_dim=WIDTH,
            micro_cond_encode_dim=2,
            micro_cond_embed_dim=10,
            encoder_hidden_size=WIDTH,
            vocab_size=CODES + 4,
            codebook_size=CODES,
            in_channels=WIDTH,
            block_out_channels=WIDTH,
            num_res_blocks=1,
            block_num_heads=1,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=WIDTH,
            sample_size=4,
        )
        encoder = CLIPTextModelWithProjection(clip_config(tokenizer, WIDTH, 2))
    return AmusedPipeline(vqvae, tokenizer, encoder, transformer, AmusedScheduler(mask_token_id=CODES + 3))


def build(
    tokenizer: CLIPTokenizer,
    encoder: CLIPTextModelWithProjection,
    vqvae: VQModel,
    grid: int,
    width: int,
    layers: int,
    seed: int = 0,
) -> AmusedPipeline:
    """Return a pipeline with a random transformer over the codes of `vqvae`, which sees pictures from 0 to 1.

    The transformer sees a picture's `grid` x `grid` codes as half as many places in a row, as that of aMUSEd-512 does:
    a quarter of the cost.
    """
    codes, text = vqvae.config.num_vq_embeddings, encoder.config.projection_dim
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer = UVit2DModel(
            hidden_size=width,
            cond_embed_dim=text,
            micro_cond_encode_dim=2,
            micro_cond_embed_dim=10,
            encoder_hidden_size=encoder.config.hidden_size,
            vocab_size=codes + 1,
            codebook_size=codes,
            in_channels=width // 2,
            block_out_channels=width,
            num_res_blocks=1,
            downsample=True,
            upsample=True,
            block_num_heads=max(1, width // 32),
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 32),
            intermediate_size=2 * width,
            sample_size=grid,
        )
        begin_alike(transformer, vqvae.quantize.embedding.weight)
    return AmusedPipeline(vqvae, tokenizer, encoder, transformer, AmusedScheduler(mask_token_id=codes))


@torch.no_grad()
def begin_alike(transformer: UVit2DModel, codebook: Float[Tensor, "codes width"]) -> None:
    """Let codes that lie near each other begin as near: what is learnt of one is learnt of its neighbours.

    What a code is read as, and what its logit is the product of, begin as random linear functions of (v, |v|^2), v the
    code's vector with mean 0 and standard deviation 1. With |v|^2 logits can be those of any isotropic Gaussian.
    """
    v = (codebook - codebook.mean(0)) / codebook.std(0)
    square = v.square().sum(1, keepdim=True)
    known = torch.cat([v, (square - square.mean()) / square.std()], 1) / (v.shape[1] + 1) ** 0.5
    read, written = transformer.embed.embeddings.weight, transformer.mlm_layer.conv2.weight
    read[: len(known)] = known @ torch.randn(known.shape[1], read.shape[1])
    written[:, :, 0, 0] = known @ torch.randn(known.shape[1], written.shape[1]) / written.shape[1] ** 0.5


@torch.no_grad()
def from_zero_to_one(vqvae: VQModel) -> VQModel:
    """Return the same tokenizer for pictures in [0, 1] instead of [-1, 1]: with p = (x + 1) / 2 in the place of x.

    What it shows is the same. What it sees is too, but at the border: the convolution's zeros around a picture are
    black there, and were grey.
    """
    moved = deepcopy(vqvae)
    moved.register_to_config(lookup_from_codebook=True)
    first, last = moved.encoder.conv_in, moved.decoder.conv_out
    first.bias -= first.weight.sum((1, 2, 3))
    first.weight *= 2
    last.weight /= 2
    last.bias.copy_(last.bias / 2 + 0.5)
    return moved
