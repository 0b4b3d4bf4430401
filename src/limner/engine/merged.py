"""A low-rank linear layer as one product, and when that is the cheaper form."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import Linear
from torch import Tensor, nn


class MergedLinear(Linear):
    """peft's layer with the forward pass of one product, (W + scale B A) x: W itself is never written.

    The sum is formed anew in each pass, so it is of the weights as they are, of the adapter that runs, and A and B have
    their exact gradients through it. Sampling and update run in this one form: what was sampled is scored as it was.
    A class, and no function of each layer, so that the compiler sees one code in all blocks.
    """

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return the layer's output under the adapter that runs, or the base's under none."""
        weight = self.base_layer.weight
        for adapter in self._active_adapter:
            b, a = self.lora_B[adapter].weight, self.lora_A[adapter].weight
            weight = torch.addmm(weight, b, a, alpha=self.scaling[adapter])
        return nn.functional.linear(x, weight, self.base_layer.bias)


def merge_where_cheaper(layer: Any, rank: int) -> None:
    """Give a layer the one product where it is cheaper, and loses nothing."""
    if type(layer) is Linear and _stored(layer.base_layer) and _cheaper_merged(layer.base_layer.weight, rank):
        layer.__class__ = MergedLinear


def _stored(layer: nn.Module) -> bool:
    """Tell whether a layer has its weights as they are, and makes them of nothing else in each pass."""
    return "weight" in dict(layer.named_parameters(recurse=False))


def _cheaper_merged(weight: Float[Tensor, "outputs inputs"], rank: int) -> bool:
    """Tell whether a layer takes fewer products a row as W + scale B A than with B A beside W, and loses nothing so.

    Forward and backward are 3 products with W of n x m, or 2 with W and 3 each with A and B: n m < 3 rank (n + m). In
    half precision the sum would swallow an update below 2^-9 of a weight, so there the two stay apart.
    """
    n, m = weight.shape
    return weight.dtype == torch.float32 and n * m < 3 * rank * (n + m)
