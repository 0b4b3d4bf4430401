"""How far the trained policy has moved from the one it began as, as a term of a loss."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.protocols import Actors, DecisionProcess, Distribution, ForwardProcess
from limner.core.types import Batch, Decisions, PassLoss, Renoised
from limner.objectives.matching import velocity_mse


def reference_penalty(
    kl_weight: float,
    velocity: Float[Tensor, "pack *latent"],
    actors: Actors[ForwardProcess],
    batch: Batch,
    pack: Renoised,
) -> PassLoss:
    """Return kl_weight |velocity - velocity of the reference|^2 / D of each evaluation, and its health; 0 asks nobody.

    Source: DiffusionNFT, arXiv:2509.16117, published code.
    """
    if kl_weight == 0:
        return torch.zeros(len(pack), device=velocity.device), {}
    with torch.no_grad():
        reference = actors.reference.restore(pack, batch.rollout.condition).velocity
    distance = velocity_mse(velocity, reference)
    return kl_weight * distance, {"reference_distance": distance.detach()}


def decision_penalty(
    kl_weight: float,
    distribution: Distribution,
    actors: Actors[DecisionProcess],
    batch: Batch,
    pack: Decisions,
    by_time: bool = False,
) -> PassLoss:
    """Return kl_weight KL(distribution || that of the reference) / D of each decision, and its health; 0 asks nobody.

    The KL is exact; `by_time`, it is multiplied by the decision's length, h = t - s. Its gradient is taken at the
    states that were visited: how the policy might visit others does not count, as in all published codes.
    Source: Flow-GRPO, arXiv:2505.05470, eq. 8; its code has h times it, and so a weight for that.
    """
    if kl_weight == 0:
        return torch.zeros(len(pack), device=pack.choice.device), {}
    with torch.no_grad():
        reference = actors.reference.distribution(pack, batch.rollout.condition)
    divergence = distribution.kl(reference)
    length = pack.length if by_time else 1.0
    return kl_weight * length * divergence / actors.policy.elements(), {"kl": divergence.detach()}
