"""How many of the samples of its group one beats."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def win_rate(
    scores: Float[Tensor, " batch"], group: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return (number of the group's other valid samples with a lower score + half of those with the same) / number.

    One half where there is no other, 0 for invalid samples.
    """
    return lexicographic_rate([scores], group, valid)


def lexicographic_rate(
    scores: Sequence[Float[Tensor, " batch"]],
    group: Int[Tensor, " batch"],
    valid: Bool[Tensor, " batch"],
    tolerance: float = 0.0,
) -> Float[Tensor, " batch"]:
    """Return the `win_rate` where the first score that differs by more than `tolerance` decides.

    The last score decides by any difference; if it is equal too, both have half a win. Within the tolerance "no better"
    is not transitive, so three samples may beat one another in a ring: the share of wins is defined all the same.
    """
    others = (group[:, None] == group[None, :]) & valid[None, :] & ~torch.eye(len(group), dtype=torch.bool)
    result = torch.zeros(len(group), len(group), dtype=scores[0].dtype)
    for place, column in enumerate(scores):
        ahead = column[:, None] - column[None, :]
        margin = tolerance if place < len(scores) - 1 else 0.0
        result = torch.where((result == 0) & (ahead.abs() > margin), ahead.sign(), result)
    wins = (others * (0.5 + 0.5 * result)).sum(1)
    count = others.sum(1)
    return torch.where(count > 0, wins / count.clamp(min=1), 0.5) * valid
