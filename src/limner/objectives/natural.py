"""Natural gradients: the direction that improves most for a given change of the distribution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def conjugate_gradient(
    product: Callable[[Float[Tensor, " size"]], Float[Tensor, " size"]],
    target: Float[Tensor, " size"],
    steps: int,
    tolerance: float = 1e-10,
) -> Float[Tensor, " size"]:
    """Return x with product(x) close to target; `product` multiplies with a symmetric positive matrix.

    It stops early when |target - product(x)|^2 < tolerance |target|^2. In exact arithmetic `size` steps solve it.
    Source: Hestenes and Stiefel, 1952; in TRPO, arXiv:1502.05477, appendix C.
    """
    x, residual = torch.zeros_like(target), target.clone()
    direction, size = residual.clone(), residual @ residual
    enough = tolerance * size
    for _ in range(steps):
        if size <= enough:
            break
        moved = product(direction)
        length = size / (direction @ moved)
        x = x + length * direction
        residual = residual - length * moved
        size, before = residual @ residual, size
        direction = residual + size / before * direction
    return x
