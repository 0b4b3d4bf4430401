"""A small head on features that are frozen: what EfficientNet sees of a picture, and MiniLM reads of a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.judging.efficientnet import PICTURE_WIDTH, picture_features
from limner.judging.minilm import TEXT_WIDTH, text_features


class Frozen(nn.Module):
    """Two layers on the features of picture and text, and on the product of what both are mapped to."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(PICTURE_WIDTH))
        self.register_buffer("std", torch.ones(PICTURE_WIDTH))
        self.picture = nn.Linear(PICTURE_WIDTH, width)
        self.text = nn.Linear(TEXT_WIDTH, width)
        self.head = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, outputs))

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 1280"]:
        """Return the frozen features of pictures in [0, 1]."""
        return picture_features(pixels)

    def read(self, texts: Sequence[str]) -> Float[Tensor, "n 384"]:
        """Return the frozen features of texts."""
        return text_features(texts).to(self.mean.device)

    def standardise(self, seen: Float[Tensor, "n 1280"]) -> None:
        """Bring features to a common scale: that of the pictures which it is trained on."""
        self.mean.copy_(seen.mean(0))
        self.std.copy_(seen.std(0) + 0.05)

    def judge(self, seen: Float[Tensor, "n 1280"], read: Float[Tensor, "n 384"]) -> Float[Tensor, "n outputs"]:
        """Return numbers for pictures, each with its text."""
        a, b = self.picture((seen - self.mean) / self.std).relu(), self.text(read).relu()
        return self.head(torch.cat([a, b, a * b], 1))
