"""What `DPO`'s loss is on an oracle, of any policy, with answers replaced by their chances, which are known.

The loss of a pair knows a policy by where it moves the base's velocity, d(x, t) = v - v_ref. With D elements and
e = v_ref - (noise - x0), the error of a sample changes by (|d|^2 + 2 d . e) / D, and the gap of a pair is the
difference of two such changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from limner.algorithms.dpo import DPO
from limner.bench.annotated import drawn
from limner.core.rng import Rng
from limner.diffusion.schedule import add_noise
from limner.diffusion.timesteps import logit_normal, logit_normal_cdf
from limner.objectives.preference import pair_loss
from limner.policies.denoising import Denoising
from limner.worlds.annotator import Annotator
from limner.worlds.oracle.world import WORLDS

Field: TypeAlias = Callable[[Float[Tensor, "points 2"]], Float[Tensor, "points 2"]]
"""Where velocities move at one time."""


class Asked(NamedTuple):
    """Pairs at one time: both samples, noised alike, the base's errors there, and how likely the first is preferred."""

    state: Float[Tensor, "2 pairs 2"]
    error: Float[Tensor, "2 pairs 2"]
    chance: Float[Tensor, " pairs"]


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


def moved(policy: Denoising, base: Denoising, t: float) -> Field:
    """Return where a policy moves the base's velocities at time t."""
    return lambda x: _velocity(policy, x, t) - _velocity(base, x, t)


def _velocity(policy: Denoising, x: Float[Tensor, "points 2"], t: float) -> Float[Tensor, "points 2"]:
    condition, index = {"nothing": torch.zeros(1)}, torch.zeros(len(x), dtype=torch.long)
    with torch.no_grad():
        return policy.estimate(x, torch.full((len(x),), t).to(x), condition, index).velocity
