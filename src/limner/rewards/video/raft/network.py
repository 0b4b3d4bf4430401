"""The network, small and large, and its weights, which are torchvision's published files (BSD-3-Clause).

`raft_small_C_T_V2-01064c6d.pth` and `raft_large_C_T_SKHT_V2-ff5fadd5.pth`, whose names the modules have.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limner.rewards.video.raft.matching import CELL, LEVELS, around, enlarged, likeness
from limner.rewards.video.raft.parts import Encoder, Recurrent, layer
from limner.rewards.vision.weights import fill, read_weights

UPDATES = 12
"""Times that flow is improved, as torchvision does it."""


@dataclass(frozen=True)
class Size:
    """Channels of the parts, and what else differs between the two published networks."""

    features: tuple[int, ...]
    context: tuple[int, ...]
    norm: str
    """Of the context's encoder: batch or none; that of the features is by instance."""
    narrow: bool
    """Whether blocks are bottlenecks of three layers, not pairs."""
    radius: int
    correlation: tuple[int, ...]
    flow: tuple[int, int]
    motion: int
    hidden: int
    kernels: tuple[tuple[int, int], ...]
    head: int
    mask: bool
    """Whether the last hidden state says how flow is enlarged; else it is interpolated."""


LARGE = Size((64, 64, 96, 128, 256), (64, 64, 96, 128, 256), "batch", False, 4, (256, 192), (128, 64), 128, 128,
    ((1, 5), (5, 1)), 256, True)  # fmt: skip
SMALL = Size((32, 32, 64, 96, 128), (32, 32, 64, 96, 160), "", True, 3, (96,), (64, 32), 82, 96,
    ((3, 3),), 128, False)  # fmt: skip


class MotionEncoder(nn.Module):
    """What the flow so far, and how well it fits, say of each place."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        seen, moved = size.correlation, size.flow
        self.convcorr1 = layer(LEVELS * (2 * size.radius + 1) ** 2, seen[0], 1)
        self.convcorr2 = layer(seen[0], seen[1], 3) if len(seen) == 2 else nn.Identity()
        self.convflow1, self.convflow2 = layer(2, moved[0], 7), layer(moved[0], moved[1], 3)
        self.conv = layer(seen[-1] + moved[1], size.motion - 2, 3)

    def forward(self, flow: Tensor, fits: Tensor) -> Tensor:
        both = torch.cat([self.convcorr2(self.convcorr1(fits)), self.convflow2(self.convflow1(flow))], 1)
        return torch.cat([self.conv(both), flow], 1)


class Raft(nn.Module):
    """The network of Teed and Deng, arXiv:2003.12039, for pictures whose sides are multiples of 8, 128 at least."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.feature_encoder = Encoder(size.features, "instance", size.narrow)
        self.context_encoder = Encoder(size.context, size.norm, size.narrow)
        read = size.motion + size.context[-1] - size.hidden
        units = {f"convgru{i}": Recurrent(read, size.hidden, kernel) for i, kernel in enumerate(size.kernels, 1)}
        head = {
            "conv1": nn.Conv2d(size.hidden, size.head, 3, padding=1),
            "conv2": nn.Conv2d(size.head, 2, 3, padding=1),
        }
        self.update_block = nn.ModuleDict(
            {
                "motion_encoder": MotionEncoder(size),
                "recurrent_block": nn.ModuleDict(units),
                "flow_head": nn.ModuleDict(head),
            }
        )
        mask = {"convrelu": layer(size.hidden, 256, 3), "conv": nn.Conv2d(256, 9 * CELL**2, 1)}
        self.mask_predictor = nn.ModuleDict(mask) if size.mask else None

    def forward(
        self, now: Float[Tensor, "batch 3 height width"], then: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 2 height width"]:
        """Return how far each pixel of `now` moves to `then`, x and y in pixels, of pictures in [-1, 1]."""
        one, other = self.feature_encoder(torch.cat([now, then])).chunk(2)
        levels = likeness(one, other)
        h, context = self.context_encoder(now).split([self.size.hidden, self.size.context[-1] - self.size.hidden], 1)
        h, context = torch.tanh(h), F.relu(context)
        flow = one.new_zeros(len(one), 2, *one.shape[-2:])
        block = self.update_block
        for _ in range(UPDATES):
            moved = block["motion_encoder"](flow, around(levels, flow, self.size.radius))
            for unit in block["recurrent_block"].values():
                h = unit(h, torch.cat([context, moved], 1))
            flow = flow + block["flow_head"]["conv2"](F.relu(block["flow_head"]["conv1"](h)))
        if self.mask_predictor is None:
            return CELL * F.interpolate(flow, scale_factor=CELL, mode="bilinear", align_corners=True)
        return enlarged(flow, 0.25 * self.mask_predictor["conv"](self.mask_predictor["convrelu"](h)))


@functools.cache
def raft(path: str) -> nn.Module:
    """Return the network with the weights of a file, large or small. Raises UserError for what is neither's."""
    state = read_weights("flow", path)
    large = any(name.startswith("mask_predictor.") for name in state)
    return fill("flow", Raft(LARGE if large else SMALL), state, path)
