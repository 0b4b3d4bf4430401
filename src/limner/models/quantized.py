"""A frozen base in 8 or 4 bits, under the LoRA that is trained.

Of the linear layers inside a network's blocks, which hold nearly all of its weights, codes and scales are kept; numbers
are made of them anew in every pass, backward too, a layer at a time. What enters and leaves the blocks stays as it is.

    int8   w ~ s c           c in -127 ... 127,  s = max |w| / 127 of a row
    nf4    w ~ s LEVELS[c]   c in 0 ... 15,      s = max |w| of 64 weights

Source: int8 by rows, Dettmers et al., arXiv 2208.07339, section 2.1, for the weights alone; NF4, Dettmers et al.
(QLoRA), arXiv 2305.14314, section 3 and appendix E, without their second quantisation, of the scales.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from limner.core.edition import Bits

BLOCK = 64
"""Weights that share a scale in nf4."""
LEVELS = (
    -1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
)  # fmt: skip
"""Of a normal variable's quantiles, so that each is used about as often; 0 is among them."""


def quantize(network: nn.Module, kind: Bits, dtype: torch.dtype) -> None:
    """Put coded layers, which compute in `dtype`, in the place of the linear ones inside the network's blocks."""
    if kind == "none":
        return
    for name, module in list(network.named_modules()):
        place, _, own = name.rpartition(".")
        fits = isinstance(module, nn.Linear) and module.weight.numel() % BLOCK == 0
        if fits and any(part.isdigit() for part in name.split(".")):
            setattr(network.get_submodule(place), own, Coded(module, kind, dtype))


class Coded(nn.Linear):
    """A frozen linear layer whose weights are codes; `weight` are the numbers that they stand for, made when asked.

    To those who adapt it, it is a linear layer like another; a gradient passes through it, to what it is given.
    """

    codes: Tensor
    scale: Tensor
    pairs: Tensor

    def __init__(self, layer: nn.Linear, kind: Bits, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.dtype, self.bias = dtype, layer.bias
        weight = layer.weight.detach().float()
        if kind == "int8":
            scale = _scale(weight.abs().amax(1, keepdim=True) / 127)
            self.register_buffer("codes", (weight / scale).round().to(torch.int8))
        else:
            blocks = weight.reshape(-1, BLOCK)
            scale = _scale(blocks.abs().amax(1, keepdim=True))
            self.register_buffer("codes", _nearest(blocks / scale))
            levels = torch.tensor(LEVELS, device=weight.device, dtype=dtype)
            self.register_buffer("pairs", torch.cartesian_prod(levels, levels), persistent=False)
        self.register_buffer("scale", scale)

    @property
    def weight(self) -> Float[Tensor, "outputs inputs"]:  # type: ignore[override]
        """The numbers, in the layer's precision: a tensor of its own, which nobody keeps."""
        scale = self.scale.to(self.dtype)
        if self.codes.dtype == torch.int8:
            return self.codes * scale
        numbers = nn.functional.embedding(self.codes.int(), self.pairs).view(-1, BLOCK)
        return (numbers * scale).view(self.out_features, self.in_features)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return W x + b."""
        return _Product.apply(x, self)


class _Product(torch.autograd.Function):
    """x -> W x + b, which keeps the codes for the backward pass, and not the numbers made of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Coded) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient.to(ctx.layer.dtype) @ ctx.layer.weight, None


def _scale(largest: Float[Tensor, "rows 1"]) -> Float[Tensor, "rows 1"]:
    """Return what rows are divided by: of zeros 1."""
    return torch.where(largest > 0, largest, 1.0)


def _nearest(shares: Float[Tensor, "blocks size"]) -> UInt8[Tensor, " half"]:
    """Return the nearest levels of numbers in [-1, 1], two in a byte, the first in its upper half."""
    levels = torch.tensor(LEVELS, device=shares.device)
    codes = torch.bucketize(shares, (levels[1:] + levels[:-1]) / 2).to(torch.uint8).view(-1, 2)
    return codes[:, 0] * 16 + codes[:, 1]
