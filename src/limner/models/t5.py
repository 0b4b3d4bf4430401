"""T5 text encoders from nothing: in a tokenizer given words are one token each, other text falls to its letters."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import T5Config, T5EncoderModel, T5TokenizerFast, UMT5Config, UMT5EncoderModel

BEGINS = "\u2581"
"""What SentencePiece writes for the space before a word."""


def letter_tokenizer(max_length: int, words: Sequence[str] = ()) -> T5TokenizerFast:
    """Return a T5 tokenizer over `words` and single letters and digits, built without a vocabulary file."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (BEGINS, -2.0)]
    pieces += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    pieces += [(f"{BEGINS}{word}", -1.0) for word in words]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=max_length)


def t5_encoder(tokenizer: T5TokenizerFast, width: int) -> T5EncoderModel:
    """Return a randomly initialised T5 text encoder of one layer for `tokenizer`."""
    return T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
    )


def umt5_encoder(tokenizer: T5TokenizerFast, width: int, layers: int) -> UMT5EncoderModel:
    """Return a randomly initialised UMT5 text encoder for `tokenizer`."""
    heads = max(1, width // 32)
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer),
            d_model=width,
            d_kv=width // heads,
            d_ff=2 * width,
            num_layers=layers,
            num_heads=heads,
            dropout_rate=0.0,
        )
    )
