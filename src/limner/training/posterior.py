"""What votes say of a linear reward: the posterior of its weights, and members drawn from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from limner.objectives.choice import Ties, choice_loss, ranking_loss, rating_loss
from limner.objectives.laplace import laplace
from limner.rewards.learned.linear import LinearHead
from limner.rewards.learned.network import Member
from limner.training.judgements import Judgements

PRIOR = 2.5
"""Standard deviation of what a picture is worth before any vote, in nats; of how readily people say tie, too."""


def infer(
    members: Sequence[Member],
    of: Judgements,
    seen: Float[Tensor, "pictures frames width"],
    ties: Ties,
    generator: torch.Generator,
) -> None:
    """Give each member weights from their posterior, by Laplace; the members' mean is its mode.

        -log p(w, t | votes) = sum over pairs, rankings and ratings of -log P(what was said | w . x, t)
                             + (|w|^2 + t^2) / (2 PRIOR^2)

    x are the features of a picture (of a clip the mean over its frames), w weights and t the tie of each question; t
    stays at the mode. Each vote counts, so that a pair that three people judged tells three times as much.

    Source: Bradley and Terry with a normal prior, by Laplace: MacKay, Neural Computation 4 (1992), 415.
    """
    head = _linear(members[0])
    x = head.features(seen).mean(1).double()
    outputs, width = head.weight.shape
    count = outputs * width

    def loss(at: Float[Tensor, " weights"]) -> Float[Tensor, ""]:
        worth, tie = x @ at[:count].reshape(outputs, width).T, at[count:]
        lead = worth[of.pairs[:, 0]] - worth[of.pairs[:, 1]]
        pairs = [choice_loss(lead[:, i], of.votes[:, i].double(), ties, tie[i]) for i in range(outputs)]
        orders = ranking_loss(worth[:, 0][of.rankings], of.ranked)
        ratings = rating_loss(worth[of.rated, 0], of.liked.double())
        return torch.cat([*pairs, orders, ratings]).sum() + at.square().sum() / (2 * PRIOR**2)

    posterior = laplace(loss, torch.zeros(count + outputs, dtype=torch.float64))
    drawn = posterior.about(count).draws(len(members), generator)
    with torch.no_grad():
        for member, weights in zip(members, drawn, strict=True):
            _linear(member).weight.copy_(weights.reshape(outputs, width))
            member.tie.copy_(posterior.mean[count:])


def _linear(member: Member) -> LinearHead:
    assert isinstance(member.network, LinearHead)
    return member.network
