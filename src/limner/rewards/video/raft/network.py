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
from limner.rewards.video.raft.parts import Encoder, FlowHead, MaskPredictor, Recurrent, layer
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


class Update(nn.Module):
    """One improvement of flow."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        read = size.motion + size.context[-1] - size.hidden
        units = {f"convgru{i}": Recurrent(read, size.hidden, kernel) for i, kernel in enumerate(size.kernels, 1)}
        self.motion_encoder, self.recurrent_block = MotionEncoder(size), nn.ModuleDict(units)
        self.flow_head = FlowHead(size.hidden, size.head)

    def forward(self, h: Tensor, context: Tensor, fits: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        read = torch.cat([context, self.motion_encoder(flow, fits)], 1)
        for unit in self.recurrent_block.values():
            h = unit(h, read)
        return h, flow + self.flow_head(h)


class Raft(nn.Module):
    """The network of Teed and Deng, arXiv:2003.12039, for pictures whose sides are multiples of 8, 128 at least."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.feature_encoder = Encoder(size.features, "instance", size.narrow)
        self.context_encoder = Encoder(size.context, size.norm, size.narrow)
        self.update_block = Update(size)
        self.mask_predictor = MaskPredictor(size.hidden, 9 * CELL**2) if size.mask else None

    def forward(
        self, now: Float[Tensor, "batch 3 height width"], then: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 2 height width"]:
        """Return how far each pixel of `now` moves to `then`, x and y in pixels, of pictures in [-1, 1]."""
        one, other = self.feature_encoder(torch.cat([now, then])).chunk(2)
        levels, said = likeness(one, other), self.context_encoder(now)
        h, context = torch.tanh(said[:, : self.size.hidden]), F.relu(said[:, self.size.hidden :])
        flow = one.new_zeros(len(one), 2, *one.shape[-2:])
        for _ in range(UPDATES):
            h, flow = self.update_block(h, context, around(levels, flow, self.size.radius), flow)
        if self.mask_predictor is None:
            return CELL * F.interpolate(flow, scale_factor=CELL, mode="bilinear", align_corners=True)
        return enlarged(flow, self.mask_predictor(h))


@functools.cache
def raft(path: str) -> nn.Module:
    """Return the network with the weights of a file, large or small. Raises UserError for what is neither's."""
    state = read_weights("flow", path)
    large = any(name.startswith("mask_predictor.") for name in state)
    return fill("flow", Raft(LARGE if large else SMALL), state, path)
