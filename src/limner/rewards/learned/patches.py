"""A small network that looks for words in what a frozen network sees of each place of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.judging.efficientnet import DETAILED_WIDTH, detailed_features
from limner.rewards.learned.small import Small

PIXELS = 8
"""Of a picture's `edge`, a side of a patch: it is shown to EfficientNet, whose patches have 16, twice as large."""
DROPPED = 0.2
"""The share of the frozen network's numbers that a step of training does without: there are many for few pictures."""


class Patches(nn.Module):
    """EfficientNet-Lite0, frozen, sees; two layers of its own say what of that matters, and `Small` looks there."""

    mean: Tensor
    std: Tensor

    def __init__(self, words: Sequence[str], edge: int, width: int, outputs: int, motion: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(DETAILED_WIDTH, 1, 1))
        self.register_buffer("std", torch.ones(DETAILED_WIDTH, 1, 1))
        self.edge = edge
        self.small = Small(words, eye_for_patches(width), edge, width, outputs, motion)

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 284 rows columns"]:
        """Return the frozen features of each place of pictures in [0, 1]."""
        return detailed_features(pixels, self.edge // PIXELS * 16)

    def read(self, texts: Sequence[str]) -> Float[Tensor, "n words channels_1"]:
        """Return each word as it is meant in its text, as `Small` does."""
        return self.small.read(texts)

    def standardise(self, seen: Float[Tensor, "n 284 rows columns"]) -> None:
        """Bring features to a common scale: that of the pictures which it is trained on."""
        self.mean.copy_(seen.mean((0, 2, 3))[:, None, None])
        self.std.copy_(seen.std((0, 2, 3))[:, None, None] + 1e-3)

    def judge(
        self, seen: Float[Tensor, "n 284 rows columns"], read: Float[Tensor, "n words channels_1"], frames: int
    ) -> Float[Tensor, "n outputs"]:
        """Return numbers for frames, each with its text."""
        return self.small.judge(self.small.eye((seen - self.mean) / self.std), read, frames)


def eye_for_patches(width: int) -> nn.Sequential:
    """Return two layers that make of a frozen network's patches, and those beside them, `width` numbers each."""
    layers: list[nn.Module] = [nn.Dropout2d(DROPPED)]
    for width_in, size in ((DETAILED_WIDTH, 1), (width, 3)):
        layers += [nn.Conv2d(width_in, width, size, 1, size // 2, bias=False), nn.GroupNorm(8, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, width, 1))
