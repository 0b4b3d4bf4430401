"""The least that `DPO`'s loss can be on an oracle, and the share of the way there that a policy has gone.

At each time the best policy is a vector field over the plane (`limner.bench.preferred`), and times have nothing to do
with one another. Fields are sought on a grid, linear between its points.

Three numbers enclose the least loss of all fields. What a field loses on pairs that it was not found on is above it;
what the best on a grid loses on the pairs that it was found on is below it, but for what a finer grid could do; and
below both is what whoever knows the utilities would lose, were gaps free. On o1 that is reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from limner.algorithms.dpo import DPO
from limner.bench.preferred import Asked, Field, ask, bayes, losses, moved, times
from limner.core.rng import Rng
from limner.policies.denoising import Denoising, Sampler
from limner.worlds.annotator import Annotator
from limner.worlds.oracle.model import Oracle

WIDTH, BEND = 5.0, 0.25
"""The grid ends at -WIDTH and WIDTH; its lines are at even distances of asinh(x / BEND), so dense around 0."""
GRIDS: tuple[int, ...] = (11, 21, 41)
"""Lines on an axis, one after the other: each grid begins with what the one before found."""
STARTS = ((0.0, 0.0), (3.0, 3.0))
"""Where the coarsest grid begins, but for a little noise: nothing moves, or all does. The better end is refined."""
PAIRS, OTHERS, TIMES, STEPS = 30_000, 10_000, 6, 40
"""Pairs of a time that a field is found on, and others that it is tried on; times; iterations of L-BFGS on a grid."""

Grid: TypeAlias = Float[Tensor, "2 lines lines"]


class Least(NamedTuple):
    """Of one time: other pairs, and the mean loss there, of the base, of the best field found, and of free logits.

    `seen` is what that field loses on the pairs that it was found on.
    """

    t: float
    asked: Asked
    base: float
    best: float
    bayes: float
    seen: float


def at(grid: Grid) -> Field:
    """Return the field that has these values on the grid, and beyond it those at its edge."""

    def field(x: Float[Tensor, "points 2"]) -> Float[Tensor, "points 2"]:
        place = torch.asinh(x / BEND) / math.asinh(WIDTH / BEND)
        return grid_sample(grid[None], place[None, None], padding_mode="border", align_corners=True)[0, :, 0].T

    return field


def minimised(
    algorithm: DPO, asked: Asked, field: Callable[[Tensor], Field], start: Float[Tensor, "2 *any"], steps: int
) -> tuple[float, Tensor]:
    """Return the least mean loss of a family of fields that L-BFGS finds from `start`, and the weights there."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], 1, steps, line_search_fn="strong_wolfe", tolerance_change=1e-10)

    def mean() -> float:
        optimizer.zero_grad()
        loss = losses(algorithm, field(weights), asked).mean()
        loss.backward()
        return loss.item()

    optimizer.step(mean)
    found = weights.detach()
    return float(losses(algorithm, field(found), asked).mean()), found


def solve(algorithm: DPO, asked: Asked, grids: Sequence[int], steps: int) -> list[tuple[float, Grid]]:
    """Return the least mean loss on each grid, and the field there."""
    noise = 0.1 * torch.randn(2, grids[0], grids[0], generator=Rng(("start",)).generator()).double()
    starts = [noise + torch.tensor(start).double()[:, None, None] for start in STARTS]
    found = [min((minimised(algorithm, asked, at, each, steps) for each in starts), key=lambda each: each[0])]
    for lines in grids[1:]:
        finer = interpolate(found[-1][1][None], (lines, lines), mode="bilinear", align_corners=True)[0]
        found.append(minimised(algorithm, asked, at, finer, steps))
    return found


@cache
def least(path: str, algorithm: DPO, annotator: Annotator) -> list[Least]:
    """Return the least losses of an oracle, time by time; of all grids the one counts that does best on other pairs."""
    model = Oracle.load(path)
    model.networks["residual"].double()
    base, found = Sampler().policy(model), []
    with torch.no_grad():
        for t in times(algorithm, TIMES):
            seen, other = (
                ask(base, annotator, t, count, Rng((side, path, str(t))))
                for side, count in (("seen", PAIRS), ("other", OTHERS))
            )
            with torch.enable_grad():
                solved = solve(algorithm, seen, GRIDS, STEPS)
            tried: list[Field] = [torch.zeros_like, *(at(grid) for _, grid in solved)]
            mean = [float(losses(algorithm, each, other).mean()) for each in tried]
            found.append(Least(t, other, mean[0], min(mean), float(bayes(algorithm, other).mean()), solved[-1][0]))
    return found


def share(policy: Denoising, base: Denoising, algorithm: DPO, known: Sequence[Least]) -> float:
    """Return (L_base - L) / (L_base - L_best) of a policy, on pairs that no field was found on, over all times."""
    gained = sum(each.base - float(losses(algorithm, moved(policy, base, each.t), each.asked).mean()) for each in known)
    return gained / sum(each.base - each.best for each in known)
