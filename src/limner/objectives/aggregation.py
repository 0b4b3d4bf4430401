"""Several rewards to one total for comparing the samples of a group, where a plain sum would let scales decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limner.objectives.advantage import group_advantage

Aggregation: TypeAlias = Literal["sum", "normalize_then_sum", "win_rate"]


def aggregate(
    terms: Sequence[tuple[float, Float[Tensor, " batch"]]],
    group: Int[Tensor, " batch"],
    valid: Bool[Tensor, " batch"],
    kind: Aggregation,
) -> Float[Tensor, " batch"]:
    """Return sum_k weight_k f(value_k); NaN for invalid samples.

    f is the value itself ("sum"); its z-score within the group, by the sample standard deviation + 1e-4
    ("normalize_then_sum"); or the share of the group's other samples that a sample beats, a tie counting one half
    ("win_rate").
    Source: GDPO, arXiv:2601.05242 (with `scale` "batch" and ddof 1 the rest of its advantage; the name is TRL's);
    Pref-GRPO, arXiv:2508.20751, whose wins come from a pairwise judge: here from comparing scores.
    """
    total = torch.zeros(len(group))
    for weight, value in terms:
        match kind:
            case "sum":
                part = value
            case "normalize_then_sum":
                part = group_advantage(value, group, valid, "group", 1, 1e-4)
            case "win_rate":
                part = win_rate(value, group, valid)
            case _:
                assert_never(kind)
        total = total + weight * part
    return total.masked_fill(~valid, torch.nan)


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
