"""A posterior as a normal distribution about its mode: what is known of weights, and how unsure that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 500
"""Of the search for the mode, at most."""
CHUNK = 64
"""Columns of the Hessian that are made at once."""


class Normal(NamedTuple):
    """A normal distribution: its mean, and the inverse of its covariance."""

    mean: Float[Tensor, " weights"]
    precision: Float[Tensor, "weights weights"]

    def about(self, count: int) -> Normal:
        """Return what is known of the first `count` weights where the others are at their mean."""
        return Normal(self.mean[:count], self.precision[:count, :count])

    def draws(self, count: int, generator: torch.Generator) -> Float[Tensor, "count weights"]:
        """Return draws whose mean is this one's exactly, and whose spread about it is right on average.

            w_k = mean + sqrt(m / (m - 1)) (e_k - mean_j e_j),      e_k ~ N(0, precision^-1), k = 1 to m

        so that (1/m) sum_k (w_k - mean)(w_k - mean)' has the covariance as its expectation. A single draw is the mean.
        """
        normal = torch.randn(len(self.mean), count, generator=generator, dtype=torch.float64)
        root = torch.linalg.cholesky(self.precision)
        off = torch.linalg.solve_triangular(root.T, normal, upper=True).T
        return self.mean + (count / max(count - 1, 1)) ** 0.5 * (off - off.mean(0))


def laplace(loss: Callable[[Float[Tensor, " weights"]], Float[Tensor, ""]], start: Float[Tensor, " weights"]) -> Normal:
    """Return N(mode, H^-1): `loss` is -log posterior up to a constant, convex, in float64; H is its Hessian there.

    Source: MacKay, Neural Computation 4 (1992), 415; the mode is found by L-BFGS, and a step of Newton's from there.
    Raises ValueError where that step is not small, as there is then no mode.
    """
    mode = start.detach().double().clone().requires_grad_()
    search = torch.optim.LBFGS(
        [mode], max_iter=STEPS, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Float[Tensor, ""]:
        search.zero_grad()
        (value := loss(mode)).backward()
        return value

    search.step(closure)
    found = mode.detach()
    hessian = torch.func.jacrev(torch.func.grad(loss), chunk_size=CHUNK)(found)
    factor, failed = torch.linalg.cholesky_ex(hessian)
    step = torch.cholesky_solve(torch.func.grad(loss)(found)[:, None], factor)[:, 0]
    if failed or not bool(step.abs().max() <= 1e-3 * (1 + found.abs().max())):
        raise ValueError(f"no mode of {len(found)} weights was found in {STEPS} steps")
    return Normal(found - step, hessian)
