"""Samples that earlier weights drew, as samples of the present ones: what their loss is weighted by.

The weights that drew x with decisions c_1 ... c_T are q, the present ones, before an update, p. Then

    L = 1/N sum_i w(x_i) l_i,    w(x) = min(most, prod_j p(c_j) / q(c_j))

is, but for truncation, in expectation what samples of p would give, and l is that of an algorithm whose recorded
decisions were p's: its ratio, and its clip, begin at 1 as ever. So the past costs variance, and no method a clip.

Source: Decoupled PPO, Hilton et al., arXiv:2110.00641, section 3 (behaviour and proximal policy apart); for whole
samples truncated importance sampling, Ionides 2008.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Algorithm, DecisionProcess
from limner.core.tree import leaves, tree_map
from limner.core.types import Rollout
from limner.objectives.importance import effective_share, truncated_weight


def require_weighable(algorithm: Algorithm) -> None:
    """Raise UserError for an algorithm whose loss on weighted samples of earlier weights is not its loss on new ones.

    What is left learns from a sum over recorded decisions, each sample by itself: DDPO, FlowGRPO, GRPOGuard, FlowDPPO.
    """
    needs, name = algorithm.needs, type(algorithm).__name__
    reasons = {
        "learns from finished samples, of which nobody recorded how likely they were": not needs.path,
        "learns from pairs, which are no samples of one policy": needs.pairs,
        "takes steps of its own": needs.own_update,
        "reads all samples at once, or has a critic of them": needs.alone,
        "compares the branches of a tree": needs.tree,
        "draws with weights of its own": needs.old is not None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(
                f"rollouts.staleness: {name} {reason}, so that samples of earlier weights would teach it something "
                "else: take DDPO, FlowGRPO, GRPOGuard or FlowDPPO, or staleness 0"
            )


def as_drawn_now(
    rollout: Rollout, policy: DecisionProcess, most: float, micro_batch: int
) -> tuple[Rollout, Float[Tensor, " batch"], dict[str, float]]:
    """Return a rollout whose recorded distributions are those of `policy` as it is, and the weight of each sample.

    All decisions are evaluated once more, without gradient. The numbers say how far the weights have moved: the mean of
    log p - log q in nats (minus an estimate of KL(q || p)), the effective share of the samples, and how many weights
    were truncated.
    """
    path = rollout.path
    now = tree_map(Tensor.clone, path.old)
    log_ratio = torch.zeros(len(rollout), dtype=torch.float64)
    with torch.no_grad():
        for pack in policy.pack(rollout, torch.arange(len(rollout)), micro_batch):
            found = policy.distribution(pack, rollout.condition)
            log_ratio.index_add_(0, pack.row, found.log_ratio(pack.old, pack.choice).cpu().double())
            for kept, new in zip(leaves(now), leaves(found), strict=True):
                kept[pack.row.to(kept.device), pack.column.to(kept.device)] = new.to(kept)
    weight = truncated_weight(log_ratio, most)
    health = {
        "importance/log_ratio": float(log_ratio.mean()),
        "importance/effective": float(effective_share(weight)),
        "importance/truncated": float((log_ratio.exp() > most).double().mean()),
    }
    return replace(rollout, trajectory=replace(path, old=now)), weight, health
