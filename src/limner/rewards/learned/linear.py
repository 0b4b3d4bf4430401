"""A linear head on features that are frozen: few votes teach it, and how unsure it is of its weights is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.judging.efficientnet import DETAILED_WIDTH, detailed_features
from limner.rewards.learned.patches import PIXELS
from limner.rewards.learned.towers import towers


class LinearHead(nn.Module):
    """w . x of a picture's features x, whose mean square over the pictures that it was trained on is 1; texts unread.

    Features are the mean and the spread, over the places of a picture, of what EfficientNet-Lite0 sees there, the
    colours among it; or, of a `network`, what `towers` knows it to see. Weights are drawn, not trained: `infer`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, edge: int, outputs: int, network: str) -> None:
        super().__init__()
        self.edge, self.towers = edge, towers(network) if network else None
        width = self.towers.picture_width if self.towers else 2 * DETAILED_WIDTH
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.weight = nn.Parameter(torch.zeros(outputs, width))

    def see(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n picturewidth"]:
        """Return the frozen features of pictures in [0, 1]."""
        if self.towers:
            return self.towers.see(pixels)
        places = detailed_features(pixels, self.edge // PIXELS * 16).flatten(2)
        spread = (places.var(2, correction=0) + 1e-6).sqrt()  # of a picture of one colour it has a gradient too
        return torch.cat([places.mean(2), spread], 1)

    def read(self, texts: Sequence[str]) -> Float[Tensor, "n 0"]:
        """Return nothing: of two pictures for one prompt the better is that which is liked more, whatever was asked."""
        return self.mean.new_zeros(len(texts), 0)

    def standardise(self, seen: Float[Tensor, "n picturewidth"]) -> None:
        """Bring features to a common scale, and their mean square to 1, over the pictures that it is trained on."""
        self.mean.copy_(seen.mean(0))
        spread = seen.std(0) + 0.05
        self.std.copy_(spread * ((seen - self.mean) / spread).square().sum(1).mean().sqrt())

    def features(self, seen: Float[Tensor, "n picturewidth"]) -> Float[Tensor, "n picturewidth"]:
        """Return features on that scale."""
        return (seen - self.mean) / self.std

    def judge(
        self, seen: Float[Tensor, "n picturewidth"], read: Float[Tensor, "n 0"], frames: int
    ) -> Float[Tensor, "n outputs"]:
        """Return numbers for frames."""
        return self.features(seen) @ self.weight.T
