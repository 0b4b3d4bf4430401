"""Frozen networks that a head stands on: those of packages, or CLIP, SigLIP or DINOv2 from a folder of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.judging.efficientnet import PICTURE_WIDTH, picture_features
from limner.judging.minilm import TEXT_WIDTH, text_features
from limner.rewards.vision.clip import clip
from limner.rewards.vision.preprocess import IMAGENET, Preprocess, normalised, resampled
from limner.rewards.vision.weights import pretrained

HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""Mean and standard deviation of R, G and B of SigLIP."""
DINO_SIZE, DINO_RESIZE = 224, 256
"""Pixels a side that DINOv2 is shown, of a picture whose shorter edge has so many."""
KNOWN = ("clip", "siglip", "dinov2", "dinov2_with_registers")
"""Kinds of models, as their config.json calls them."""


@dataclass(frozen=True)
class Towers:
    """What sees pictures in [0, 1], differentiable, and what reads texts, in so many numbers each."""

    picture_width: int
    text_width: int
    see: Callable[[Float[Tensor, "n 3 height width"]], Float[Tensor, "n picturewidth"]]
    read: Callable[[Sequence[str]], Float[Tensor, "n textwidth"]]


def towers(network: str) -> Towers:
    """Return EfficientNet and MiniLM for "", or those of a folder or hub id; DINOv2 reads no texts, MiniLM does.

    Embeddings of CLIP and SigLIP have length sqrt(width), so that each number is of order 1. Raises UserError for a
    model of another kind.
    """
    if not network:
        return Towers(PICTURE_WIDTH, TEXT_WIDTH, picture_features, text_features)
    kind = pretrained("learned", "AutoConfig", network).model_type
    match kind:
        case "clip":
            return _clip(network)
        case "siglip":
            return _siglip(network)
        case "dinov2" | "dinov2_with_registers":
            return _dino(network)
    raise UserError(f"reward learned: {network!r} is a model of kind {kind!r}; known are {', '.join(KNOWN)}")


@cache
def _clip(network: str) -> Towers:
    both = clip("learned", network)
    width = both.model.config.projection_dim

    def read(texts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return width**0.5 * both.texts(texts, both.model.device)

    return Towers(width, width, lambda pixels: width**0.5 * both.pictures(pixels[:, None])[:, 0], read)


@cache
def _siglip(network: str) -> Towers:
    model: Any = pretrained("learned", "SiglipModel", network)
    tokenizer = pretrained("learned", "AutoTokenizer", network)
    size, length = model.config.vision_config.image_size, model.config.text_config.max_position_embeddings
    width = model.config.vision_config.hidden_size

    def see(pixels: Tensor) -> Tensor:
        shown = normalised(resampled(pixels, size, size), HALF)
        return _scaled(model.to(pixels.device).vision_model(pixel_values=shown).pooler_output)

    def read(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            return _scaled(model.text_model(input_ids=tokens.input_ids.to(model.device)).pooler_output)

    return Towers(width, model.config.text_config.projection_size, see, read)


@cache
def _dino(network: str) -> Towers:
    model: Any = pretrained("learned", "AutoModel", network)
    size = min(DINO_SIZE, model.config.image_size)
    shown = Preprocess(size, IMAGENET, resize=size * DINO_RESIZE // DINO_SIZE)

    def see(pixels: Tensor) -> Tensor:
        token: Tensor = model.to(pixels.device)(pixel_values=shown(pixels)).last_hidden_state[:, 0]
        return token

    return Towers(model.config.hidden_size, TEXT_WIDTH, see, text_features)


def _scaled(embedding: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    return embedding.shape[1] ** 0.5 * torch.nn.functional.normalize(embedding, dim=-1)
