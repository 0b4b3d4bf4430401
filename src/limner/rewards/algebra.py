"""Several rewards as one: every column is judged once and kept, and their weighted sum is what is maximised."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from limner.core.errors import UserError
from limner.core.types import Media, Prompt, RewardOutput

Judge = Callable[[Media, Sequence[Prompt]], RewardOutput]
"""A reward whose answer has its one form (`limner.rewards.checked`)."""


def weighted_sum(judges: Mapping[str, Judge], weights: Mapping[str, float]) -> Judge:
    """Return the judge whose score is total = sum_k weight_k column_k, in the columns' own units.

    Its `components` are the raw columns, NaN where not judged: `name`, and `name/part` for what a judge itself reports.
    A sample counts only if every judge could judge it; elsewhere the total is NaN, never a part of the sum.
    Raises UserError for no rewards, names without a weight (or the reverse), and weights that are not finite.
    """
    if not judges:
        raise UserError("no reward: name at least one, for example --reward jpeg_size")
    if judges.keys() != weights.keys():
        raise UserError(f"rewards {sorted(judges)} and weights {sorted(weights)} must have the same names")
    for name, weight in weights.items():
        if not math.isfinite(weight):
            raise UserError(f"reward {name!r}: its weight must be a finite number, got {weight}")

    def judge(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        total = torch.zeros(len(media))
        valid = torch.ones(len(media), dtype=torch.bool)
        columns = {}
        for name, single in judges.items():
            output = single(media, prompts)
            columns[name] = output.score.masked_fill(~output.valid, torch.nan)
            columns |= {f"{name}/{part}": values for part, values in output.components.items()}
            total = total + weights[name] * output.score
            valid = valid & output.valid
        return RewardOutput(total.masked_fill(~valid, torch.nan), valid, columns)

    return judge
