"""Build Hunyuan-DiT in miniature from nothing."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
from transformers import BertConfig, BertModel, BertTokenizer

from limner.models.autoencoder import tiny_autoencoder
from limner.models.t5 import letter_tokenizer, t5_encoder

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def bert_tokenizer() -> BertTokenizer:
    """Return a tokenizer of BERT's over letters and digits, built without a vocabulary file."""
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    pieces = (*special, *LETTERS, *(f"##{letter}" for letter in LETTERS))
    return BertTokenizer(vocab={piece: place for place, piece in enumerate(pieces)}, model_max_length=77)


def tiny_pipeline(seed: int = 0, told: bool = False) -> HunyuanDiTPipeline:
    """Return Hunyuan-DiT 1.2 in miniature, random weights, or 1.1, whose network is `told` sizes and style."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer, tokenizer_2 = bert_tokenizer(), letter_tokenizer(256)
        words = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=77,
        )
        return HunyuanDiTPipeline(
            vae=tiny_autoencoder(4, 0.13025, 0.0),
            text_encoder=BertModel(words),
            tokenizer=tokenizer,
            text_encoder_2=t5_encoder(tokenizer_2, 24),
            tokenizer_2=tokenizer_2,
            transformer=HunyuanDiT2DModel(
                num_attention_heads=2,
                attention_head_dim=16,
                in_channels=4,
                patch_size=2,
                sample_size=4,
                hidden_size=32,
                num_layers=4,
                cross_attention_dim=32,
                cross_attention_dim_t5=24,
                pooled_projection_dim=16,
                use_style_cond_and_image_meta_size=told,
            ),
            scheduler=DDPMScheduler(
                beta_start=0.00085,
                beta_end=0.018,
                beta_schedule="scaled_linear",
                prediction_type="v_prediction",
                steps_offset=1,
                clip_sample=False,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
