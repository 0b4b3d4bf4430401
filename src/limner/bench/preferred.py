"""The least that `DPO`'s loss can be on an oracle, and the share of the way there that a policy has gone.

The loss of a pair knows a policy by where it moves the base's velocity, d(x, t) = v - v_ref. With D elements and
e = v_ref - (noise - x0), the error of a sample changes by (|d|^2 + 2 d . e) / D, and the gap of a pair is the
difference of two such changes. So at each time the best policy is a vector field over the plane, and times have nothing
to do with one another. Fields are sought on a grid, linear between its points, from pairs whose answers are replaced by
their chances, which are known: the loss is then a mean over samples and noise alone.

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
from limner.bench.annotated import drawn
from limner.core.rng import Rng
from limner.diffusion.schedule import add_noise
from limner.diffusion.timesteps import logit_normal, logit_normal_cdf
from limner.objectives.preference import pair_loss
from limner.policies.denoising import Denoising, Sampler
from limner.worlds.annotator import Annotator
from limner.worlds.oracle.model import Oracle
from limner.worlds.oracle.world import WORLDS

WIDTH, BEND = 5.0, 0.25
"""The grid ends at -WIDTH and WIDTH; its lines are at even distances of asinh(x / BEND), so dense around 0."""
GRIDS = (11, 21, 41)
"""Lines on an axis, one after the other: each grid begins with what the one before found."""
STARTS = ((0.0, 0.0), (3.0, 3.0))
"""Where the coarsest grid begins, but for a little noise: nothing moves, or all does. The better end is refined."""
PAIRS, OTHERS, TIMES, STEPS = 30_000, 10_000, 6, 40
"""Pairs of a time that a field is found on, and others that it is tried on; times; iterations of L-BFGS on a grid."""

Field: TypeAlias = Callable[[Float[Tensor, "points 2"]], Float[Tensor, "points 2"]]
"""Where velocities move at one time."""
Grid: TypeAlias = Float[Tensor, "2 lines lines"]


class Asked(NamedTuple):
    """Pairs at one time: both samples, noised alike, the base's errors there, and how likely the first is preferred."""

    state: Float[Tensor, "2 pairs 2"]
    error: Float[Tensor, "2 pairs 2"]
    chance: Float[Tensor, " pairs"]


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


def times(algorithm: DPO, count: int) -> list[float]:
    """Return the middles, by probability, of `count` equally likely parts of the times that an algorithm draws."""
    below = logit_normal_cdf(algorithm.noising.min_time)
    return logit_normal(below + (1 - below) * (torch.arange(count).double() + 0.5) / count).tolist()


def ask(base: Denoising, annotator: Annotator, t: float, count: int, rng: Rng) -> Asked:
    """Draw pairs of a world's base density, and noise both samples of each by one noise, as DPO does."""
    world = WORLDS[annotator.of]
    a, b = (drawn(world.base, count, rng.child("pairs", side)).double() for side in "ab")
    noise = torch.randn(count, 2, generator=rng.child("noise").generator()).double()
    state = [add_noise(base.model.schedule, x0, noise, torch.full((count,), t).double()) for x0 in (a, b)]
    error = [_velocity(base, x, t) - (noise - x0) for x, x0 in zip(state, (a, b), strict=True)]
    chance = annotator.answers(world.score(a) - world.score(b))
    return Asked(torch.stack(state), torch.stack(error), chance.first / (chance.first + chance.second))


def losses(algorithm: DPO, field: Field, asked: Asked) -> Float[Tensor, " pairs"]:
    """Return the loss of each pair that a policy has whose velocities a field moves, the mean over both answers."""
    moved = field(asked.state.flatten(0, 1)).view(asked.state.shape)
    change = (moved * (moved + 2 * asked.error)).mean(2)
    return _of_gaps(algorithm, change[0] - change[1], asked)


def bayes(algorithm: DPO, asked: Asked) -> Float[Tensor, " pairs"]:
    """Return the loss of each pair were its gap free: sigmoid's is the entropy of the answer."""
    p, beta = asked.chance, algorithm.beta
    best = -torch.logit(p) * 2 / beta if algorithm.loss == "sigmoid" else (1 - 2 * p) / (2 * beta)
    return _of_gaps(algorithm, best, asked)


def _of_gaps(algorithm: DPO, gap: Float[Tensor, " pairs"], asked: Asked) -> Float[Tensor, " pairs"]:
    if algorithm.loss not in ("sigmoid", "ipo"):
        raise ValueError(f"the least loss is known of sigmoid and ipo, not of {algorithm.loss}")
    first, second = (pair_loss(each, torch.zeros_like(gap), algorithm.beta, algorithm.loss) for each in (gap, -gap))
    return asked.chance * first + (1 - asked.chance) * second


def at(grid: Grid) -> Field:
    """Return the field that has these values on the grid, and beyond it those at its edge."""

    def field(x: Float[Tensor, "points 2"]) -> Float[Tensor, "points 2"]:
        place = torch.asinh(x / BEND) / math.asinh(WIDTH / BEND)
        return grid_sample(grid[None], place[None, None], padding_mode="border", align_corners=True)[0, :, 0].T

    return field


def affine(weights: Float[Tensor, "2 3"]) -> Field:
    """Return the field weights (x, 1), which is what o1's and o2's policies can make of one time."""
    return lambda x: x @ weights[:, :2].T + weights[:, 2]


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


def solve(algorithm: DPO, asked: Asked, grids: Sequence[int], steps: int = STEPS) -> list[tuple[float, Grid]]:
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
                fields = solve(algorithm, seen, GRIDS)
            best = min(float(losses(algorithm, at(grid), other).mean()) for _, grid in fields)
            ground, bound = losses(algorithm, torch.zeros_like, other), bayes(algorithm, other)
            found.append(Least(t, other, float(ground.mean()), best, float(bound.mean()), fields[-1][0]))
    return found


def share(policy: Denoising, base: Denoising, algorithm: DPO, known: Sequence[Least]) -> float:
    """Return (L_base - L) / (L_base - L_best) of a policy, on pairs that no field was found on, over all times."""
    gained = sum(each.base - float(losses(algorithm, moved(policy, base, each.t), each.asked).mean()) for each in known)
    return gained / sum(each.base - each.best for each in known)


def moved(policy: Denoising, base: Denoising, t: float) -> Field:
    """Return where a policy moves the base's velocities at time t."""
    return lambda x: _velocity(policy, x, t) - _velocity(base, x, t)


def _velocity(policy: Denoising, x: Float[Tensor, "points 2"], t: float) -> Float[Tensor, "points 2"]:
    condition, index = {"nothing": torch.zeros(1)}, torch.zeros(len(x), dtype=torch.long)
    with torch.no_grad():
        return policy.estimate(x, torch.full((len(x),), t).to(x), condition, index).velocity
