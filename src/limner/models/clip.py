"""CLIP text encoders of any size from nothing: a tokenizer over given words, and random weights."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import AddedToken, CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def word_tokenizer(words: Sequence[str], max_length: int, alone: Sequence[str] = ()) -> CLIPTokenizer:
    """Return a CLIP tokenizer in which each of `words` is one token; other text falls to its letters.

    Those of `alone` are one token too, but only between spaces: "sign" is then one, and "signal" six letters.

    The end token is never id 2: transformers takes that id for a legacy checkpoint and then pools at the largest id
    instead of the end.
    """
    letters = sorted({letter for word in words for letter in word} | set("abcdefghijklmnopqrstuvwxyz0123456789.'-"))
    vocab: dict[str, int] = {}
    for token in (BEGIN, *letters, END, *(f"{letter}</w>" for letter in letters)):
        vocab[token] = len(vocab)
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = _merge([*word[:-1], f"{word[-1]}</w>"], merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = _merge(pieces, merges[-1:])
            vocab.setdefault(pieces[0], len(vocab))
    tokenizer = CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        model_max_length=max_length,
    )
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=False) for word in alone])
    return tokenizer


def _merge(pieces: list[str], merges: Sequence[tuple[str, str]]) -> list[str]:
    """Apply byte-pair merges, first come first served; later merges rank lower and cannot split earlier words."""
    for first, second in merges:
        joined: list[str] = []
        for piece in pieces:
            if joined and joined[-1] == first and piece == second:
                joined[-1] = first + second
            else:
                joined.append(piece)
        pieces = joined
    return pieces


def clip_config(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPTextConfig:
    """Return a text encoder's configuration for `tokenizer`, with a projection as wide as its states."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def projecting_encoder(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPTextModelWithProjection:
    """Return a randomly initialised CLIP text encoder for `tokenizer`, whose projection is as wide as its states."""
    return CLIPTextModelWithProjection(clip_config(tokenizer, width, layers))
