"""Which tokens of a picture matter: early ones, those at edges, and those that a group writes differently."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def edges(entropy: Float[Tensor, "batch rows columns"]) -> Float[Tensor, "batch rows columns"]:
    """Return |gradient| of the entropy, which is first averaged over each token and its neighbours before it.

    Those are the tokens to the left, above, and above to the left and right; differences are central, at the edge
    one-sided.
    Source: GCPO, arXiv:2509.22485, published code.
    """
    rows, columns = entropy.shape[1:]
    before = ((1, 1), (1, 0), (0, 0), (0, 1), (0, 2))  # itself and its neighbours, of what lies a row up, a column left

    def total(x: Tensor) -> Tensor:
        framed = functional.pad(x, (1, 1, 1, 0))
        return torch.stack([framed[:, i : i + rows, j : j + columns] for i, j in before]).sum(0)

    mean = total(entropy) / total(torch.ones_like(entropy))
    down, across = torch.gradient(mean, dim=(1, 2))
    return torch.hypot(down, across)


def critical(
    edge: Float[Tensor, "batch tokens"], alike: Float[Tensor, "batch tokens"], share: float
) -> Bool[Tensor, "batch tokens"]:
    """Return the critical tokens: k = floor(share T) each of the first, of those at edges, and of the least alike.

    Those at edges are not looked for among the first and last k tokens, and the least alike among those that are
    critical already.
    Source: GCPO, arXiv:2509.22485, section 3, and its published code, whose share is a tenth.
    """
    tokens = edge.shape[1]
    count = int(share * tokens)
    found = torch.zeros_like(edge, dtype=torch.bool)
    found[:, :count] = True
    inner = edge[:, count : tokens - count].topk(count, 1).indices + count
    found.scatter_(1, inner, True)
    return found.scatter(1, alike.masked_fill(found, torch.inf).topk(count, 1, largest=False).indices, True)


def alike_to(
    likeness: Float[Tensor, "group group tokens"], others: Bool[Tensor, "group group tokens"]
) -> Float[Tensor, "group tokens"]:
    """Return how much each sample is like `others` at each token, on average; 0 where there are none."""
    return (likeness * others).sum(1) / others.sum(1).clamp(min=1)


def unlike(
    likeness: Float[Tensor, "group group tokens"], advantage: Float[Tensor, "group tokens"]
) -> Float[Tensor, "group tokens"]:
    """Return (1 - s) / 2 over its mean, s the likeness to those of a group that were judged the other way.

    These are the samples with A_i A_j <= 0. What a good and a bad sample have in common is pushed up by one and down by
    the other, and counts little. Where all is alike it is 0.
    Source: STAGE, arXiv:2509.25027, and its published code.
    """
    opposed = (advantage[:, None] * advantage <= 0) & ~torch.eye(len(advantage), dtype=torch.bool)[..., None]
    weight = ((1 - alike_to(likeness, opposed.to(likeness.device))) / 2).clamp(0, 1)
    return weight / weight.mean().clamp(min=torch.finfo(weight.dtype).tiny)
