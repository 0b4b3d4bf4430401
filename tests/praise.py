"""How likely a sample is to its policy, as each algorithm measures it: for tests that praise one and look again."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limner.algorithms.dgpo import DGPO
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.dspo import DSPO
from limner.algorithms.kto import KTO
from limner.algorithms.mapo import MaPO
from limner.algorithms.reward_weighted import RewardWeighted
from limner.core.protocols import Actors, Context
from limner.core.types import Batch, Rollout
from limner.learning.passes import optimizer_steps
from limner.learning.restoration import matching_error
from limner.objectives.matching import matching_log_likelihood

PRAISED = 3
"""The sample that is praised."""
BLAMED = 2
"""The sample of its group that is worse, where one learns from pairs."""


def praise(rollout: Rollout, pairs: bool = False) -> Batch:
    """Return a batch in which one sample is good, and the others are as expected, or, of `pairs`, one of them bad."""
    advantage = torch.zeros(len(rollout))
    advantage[PRAISED] = 2.0
    if pairs:
        advantage[BLAMED] = -2.0
    return Batch(rollout, advantage)


def step_along(gradient: list[Tensor], parameters: list[Tensor], length: float) -> None:
    """Move the parameters by `length` against the gradient."""
    norm = float(torch.stack([g.norm() for g in gradient]).norm())
    with torch.no_grad():
        torch._foreach_add_(parameters, gradient, alpha=-length / norm)


def quality(algorithm, actors: Actors, rollout: Rollout, context: Context) -> float:
    """Return the praised sample's log-probability over its decisions, or minus its restoration error."""
    policy = actors.policy
    if algorithm.needs.pairs:
        return lead(algorithm, actors, rollout, context)
    with torch.no_grad():
        if algorithm.needs.path:
            packs = policy.pack(rollout, torch.tensor([PRAISED]), 100)
            return sum(policy.distribution(p, rollout.condition).log_prob(p.choice).sum().item() for p in packs)
        pack = next(policy.renoise(rollout, torch.tensor([PRAISED]), algorithm.needs.renoise, context.rng, 99))
        restored = policy.restore(pack, rollout.condition)
        if not isinstance(algorithm, DiffusionNFT):
            error = (restored.velocity - pack.velocity).square().reshape(len(pack), -1).mean(1)
            if isinstance(algorithm, RewardWeighted | DGPO | KTO):
                return -float(error.sum())
            return float(matching_log_likelihood(error, pack.t, algorithm.weighting, algorithm.power).sum())
        error = (restored.x0 - pack.x0).reshape(len(pack), -1)
        weight = error.abs().mean(1) if algorithm.adaptive else 1.0
        # With A_max = 5 and A = 2 the mixture's pull is towards the sample; its error at w = w(old) falls.
        return -float((error.square().mean(1) / weight).sum())


def lead(algorithm, actors: Actors, rollout: Rollout, context: Context) -> float:
    """Return by how much the praised sample leads: in log-probability, or by a smaller error."""
    batch = praise(rollout, pairs=True)
    packs = list(list(optimizer_steps(algorithm, actors, batch, context))[0].packs())
    with torch.no_grad():
        if algorithm.needs.path:
            found = [actors.policy.distribution(p.both, rollout.condition).log_prob(p.both.choice) for p in packs]
        else:
            found = [-matching_error(actors.policy.restore(p.both, rollout.condition), p.both) for p in packs]
    better, worse = (torch.cat([each.chunk(2)[side].flatten() for each in found]).double() for side in (0, 1))
    if isinstance(algorithm, DSPO):  # a better sample is imitated
        return float(better.sum())
    if isinstance(algorithm, MaPO):  # imitated, and led by: of a pair that is far apart already only the first is left
        return sum(mapo(algorithm, -b, -w) for b, w in zip(better.tolist(), worse.tolist(), strict=True))
    return float((better - worse).sum())


def mapo(algorithm: MaPO, better: float, worse: float) -> float:
    """Return minus MaPO's loss of two errors: -l^w + beta log sigmoid(scale (phi(l^w) - phi(l^l)))."""
    phi = [algorithm.kappa * error / math.expm1(algorithm.kappa * error) for error in (better, worse)]
    lead = algorithm.margin_scale * (phi[0] - phi[1])
    return -better + algorithm.beta * (min(lead, 0.0) - math.log1p(math.exp(-abs(lead))))
