"""A small head on features that are frozen: what a network sees of a picture, and another reads of a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.rewards.learned.motion import with_change
from limner.rewards.learned.towers import towers


class Frozen(nn.Module):
    """Two layers on the features of picture and text, and on the product of what both are mapped to.

    `network` is whose features these are, as `towers` knows it; its weights are no part of this module. With `motion`
    a picture has, beside its features, how they have changed since the frame before.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, outputs: int, network: str, motion: bool = False) -> None:
        super().__init__()
        self.motion = motion
        self.towers = towers(network)
        self.register_buffer("mean", torch.zeros(self.towers.picture_width))
        self.register_buffer("std", torch.ones(self.towers.picture_width))
        self.picture = nn.Linear((1 + motion) * self.towers.picture_width, width)
        self.text = nn.Linear(self.towers.text_width, width)
        self.head = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, outputs))

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n picturewidth"]:
        """Return the frozen features of pictures in [0, 1]."""
        return self.towers.see(pixels)

    def read(self, texts: Sequence[str]) -> Float[Tensor, "n textwidth"]:
        """Return the frozen features of texts."""
        return self.towers.read(texts).to(self.mean.device)

    def standardise(self, seen: Float[Tensor, "n picturewidth"]) -> None:
        """Bring features to a common scale: that of the pictures which it is trained on."""
        self.mean.copy_(seen.mean(0))
        self.std.copy_(seen.std(0) + 0.05)

    def judge(
        self, seen: Float[Tensor, "n picturewidth"], read: Float[Tensor, "n textwidth"], frames: int
    ) -> Float[Tensor, "n outputs"]:
        """Return numbers for frames, each with its text."""
        shown = (seen - self.mean) / self.std
        shown = with_change(shown, frames) if self.motion else shown
        a, b = self.picture(shown).relu(), self.text(read).relu()
        return self.head(torch.cat([a, b, a * b], 1))
