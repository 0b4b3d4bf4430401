"""A CLIP model as rewards use it: pictures and texts to vectors of length 1, and their cosine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from limner.rewards.vision.preprocess import Preprocess
from limner.rewards.vision.weights import pretrained


@dataclass(frozen=True)
class Clip:
    """transformers' CLIPModel with its tokenizer and what its pictures go through."""

    model: Any
    tokenizer: Any
    preprocess: Preprocess

    def pictures(self, frames: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch frames dim"]:
        """Return the embedding of each frame, of length 1: CLIPModel's `image_embeds`."""
        model = self.model.to(frames.device)
        seen = self.preprocess(frames.flatten(0, 1).float())
        embedding = model.visual_projection(model.vision_model(pixel_values=seen).pooler_output)
        return normalize(embedding, dim=-1).unflatten(0, frames.shape[:2])

    def texts(self, texts: Sequence[str], device: torch.device) -> Float[Tensor, "batch dim"]:
        """Return the embedding of each text, of length 1: CLIPModel's `text_embeds`; cut to the tokens that fit.

        Equal texts are encoded once.
        """
        model, unique = self.model.to(device), list(dict.fromkeys(texts))
        length = model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(unique, padding=True, truncation=True, max_length=length, return_tensors="pt")
        # Under the causal mask what comes after the end token changes nothing; padding needs no mask of its own.
        embedding = model.text_projection(model.text_model(input_ids=tokens.input_ids.to(device)).pooler_output)
        return normalize(embedding, dim=-1)[[unique.index(text) for text in texts]]

    def cosine(
        self, frames: Float[Tensor, "batch frames 3 height width"], texts: Sequence[str]
    ) -> Float[Tensor, " batch"]:
        """Return the cosine of each sample with its text, the mean over its frames."""
        return (self.pictures(frames) * self.texts(texts, frames.device)[:, None]).sum(-1).mean(1)


def clip(reward: str, path: str, tokenizer: str = "") -> Clip:
    """Return the CLIP model of a folder or hub id; its tokenizer may lie elsewhere."""
    model = pretrained(reward, "CLIPModel", path)
    size = model.config.vision_config.image_size
    return Clip(model, pretrained(reward, "AutoTokenizer", tokenizer or path), Preprocess(size))
