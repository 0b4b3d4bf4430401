"""How far the trained policy has moved from the one it began as, as a term of a loss."""

from __future__ import annotations

import torch

from limner.core.protocols import Actors, DecisionProcess, Distribution, ForwardProcess
from limner.core.types import Batch, Decisions, PassLoss, Renoised
from limner.diffusion.prediction import Estimate
from limner.learning.restoration import frozen
from limner.objectives.matching import elbo_weight, velocity_mse
from limner.objectives.surrogate import k3


def with_distance(
    loss: PassLoss,
    kl_weight: float,
    new: Estimate,
    actors: Actors[ForwardProcess],
    batch: Batch,
    pack: Renoised,
    by_noise: bool = False,
) -> PassLoss:
    """Add kl_weight |velocity - velocity of the reference|^2 / D to a loss, and the distance to its health.

    `new` is what the trained policy makes of the pack. Weight 0 asks nobody. `by_noise`, it is multiplied by
    `elbo_weight`.
    Source: DiffusionNFT, arXiv:2509.16117, published code.
    """
    if kl_weight == 0:
        return loss
    distance = velocity_mse(new.velocity, frozen(actors.reference, batch, pack).velocity)
    weight = elbo_weight(pack.t) if by_noise else 1.0
    return loss[0] + kl_weight * weight * distance, loss[1] | {"reference_distance": distance.detach()}


def with_divergence(
    loss: PassLoss,
    kl_weight: float,
    new: Distribution,
    actors: Actors[DecisionProcess],
    batch: Batch,
    pack: Decisions,
    by_time: bool = False,
    estimated: bool = False,
) -> PassLoss:
    """Add kl_weight KL(new || that of the reference) / D of each decision to a loss, and the KL to its health.

    `new` is the trained policy's distribution. Weight 0 asks nobody. The KL is exact, or `estimated` from the choice
    that was made, by `k3`; `by_time`, it is multiplied by the decision's length, h = t - s. Its gradient is taken at
    the states that were visited: how the policy might visit others does not count, as in all published codes.
    Source: Flow-GRPO, arXiv:2505.05470, eq. 8; its code has h times it, and so a weight for that.
    """
    if kl_weight == 0:
        return loss
    with torch.no_grad():
        reference = actors.reference.distribution(pack, batch.rollout.condition)
    if estimated:
        before, now = (each.log_ratio(pack.old, pack.choice) for each in (reference, new))
        divergence = k3(before - now)
    else:
        divergence = new.kl(reference)
    length = pack.length if by_time else 1.0
    penalty = kl_weight * length * divergence / actors.policy.elements()
    return loss[0] + penalty, loss[1] | {"kl": divergence.detach()}
