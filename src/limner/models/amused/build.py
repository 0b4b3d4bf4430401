"""An aMUSEd pipeline in miniature and from nothing."""

from __future__ import annotations

import torch
from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel
from transformers import CLIPTextModelWithProjection

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
