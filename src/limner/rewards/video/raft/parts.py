"""Layers, encoders, the recurrent unit and what reads it: parts of RAFT, with the names of torchvision's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def layer(read: int, made: int, size: int, norm: str = "", stride: int = 1, last: bool = False) -> nn.Sequential:
    """Return a convolution, its normalisation, and a rectifier unless it is the `last`."""
    parts: list[nn.Module] = [nn.Conv2d(read, made, size, stride, size // 2)]
    if norm:
        parts.append(nn.BatchNorm2d(made) if norm == "batch" else nn.InstanceNorm2d(made))
    return nn.Sequential(*parts) if last else nn.Sequential(*parts, nn.ReLU())


class Block(nn.Module):
    """A residual block: two layers, or three of which the middle one is a quarter as wide."""

    def __init__(self, read: int, made: int, norm: str, narrow: bool, stride: int) -> None:
        super().__init__()
        if narrow:
            self.convnormrelu1 = layer(read, made // 4, 1, norm)
            self.convnormrelu2 = layer(made // 4, made // 4, 3, norm, stride)
        else:
            self.convnormrelu1 = layer(read, made, 3, norm, stride)
            self.convnormrelu2 = layer(made, made, 3, norm)
        self.convnormrelu3 = layer(made // 4, made, 1, norm) if narrow else nn.Identity()
        self.downsample = nn.Identity() if stride == 1 else layer(read, made, 1, norm, stride, last=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convnormrelu3(self.convnormrelu2(self.convnormrelu1(x)))
        return F.relu(self.downsample(x) + y)


class Encoder(nn.Module):
    """What a picture shows at each place of 8 x 8 pixels."""

    def __init__(self, widths: Sequence[int], norm: str, narrow: bool) -> None:
        super().__init__()
        first, *middle, last = widths
        self.convnormrelu = layer(3, first, 7, norm, 2)
        for i, (read, made) in enumerate(zip([first, *middle], middle, strict=False), 1):
            blocks = (Block(read, made, norm, narrow, 1 if i == 1 else 2), Block(made, made, norm, narrow, 1))
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        self.conv = nn.Conv2d(middle[-1], last, 1)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


class Recurrent(nn.Module):
    """A convolutional GRU: h <- (1 - z) h + z q."""

    def __init__(self, read: int, hidden: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.convz, self.convr, self.convq = (
            nn.Conv2d(hidden + read, hidden, size, padding=(size[0] // 2, size[1] // 2)) for _ in range(3)
        )

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([h, x], 1)
        z, r = torch.sigmoid(self.convz(both)), torch.sigmoid(self.convr(both))
        return (1 - z) * h + z * torch.tanh(self.convq(torch.cat([r * h, x], 1)))


class FlowHead(nn.Module):
    """The change of flow that a hidden state says."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(hidden, width, 3, padding=1), nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        change: Tensor = self.conv2(F.relu(self.conv1(h)))
        return change


class MaskPredictor(nn.Module):
    """The weights by which flow is enlarged, of a hidden state."""

    def __init__(self, hidden: int, made: int) -> None:
        super().__init__()
        self.convrelu, self.conv = layer(hidden, 256, 3), nn.Conv2d(256, made, 1)

    def forward(self, h: Tensor) -> Tensor:
        weights: Tensor = self.conv(self.convrelu(h))
        return 0.25 * weights
