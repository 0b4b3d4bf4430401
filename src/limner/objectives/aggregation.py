"""Several rewards to one total for comparing the samples of a group, where a plain sum would let scales decide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limner.objectives.advantage import group_advantage

Aggregation: TypeAlias = Literal["sum", "normalize_then_sum", "win_rate"]


def aggregate(
    columns: Mapping[str, Float[Tensor, " batch"]],
    weights: Mapping[str, float],
    group: Int[Tensor, " batch"],
    valid: Bool[Tensor, " batch"],
    kind: Aggregation,
) -> Float[Tensor, " batch"]:
    """Return sum_k weights[k] f(columns[k]); NaN for invalid samples.

    f is the column itself ("sum"); its z-score within the group, by the sample standard deviation + 1e-4
    ("normalize_then_sum"); or the share of the group's other samples that a sample beats, a tie counting one half
    ("win_rate").
    Source: GDPO, arXiv:2601.05242 (with `scale` "batch" and ddof 1 the rest of its advantage; the name is TRL's);
    Pref-GRPO, arXiv:2508.20751, whose wins come from a pairwise judge: here from comparing scores.
    """
    total = torch.zeros(len(group))
    if not valid.any():  # then some columns may be missing altogether
        return total.masked_fill(~valid, torch.nan)
    for name, weight in weights.items():
        column = columns[name]
        match kind:
            case "sum":
                part = column
            case "normalize_then_sum":
                part = group_advantage(column, group, valid, "group", 1, 1e-4)
            case "win_rate":
                part = win_rate(column, group, valid)
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
    others = (group[:, None] == group[None, :]) & valid[None, :] & ~torch.eye(len(group), dtype=torch.bool)
    mine, theirs = scores[:, None], scores[None, :]
    wins = (others * ((mine > theirs) + 0.5 * (mine == theirs))).sum(1)
    count = others.sum(1)
    return torch.where(count > 0, wins / count.clamp(min=1), 0.5).to(scores.dtype) * valid
