"""Comparison within the group: of every pair by a comparer, and of the terms of a reward, each for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.media import Media
from limner.core.tree import select
from limner.core.types import Prompt, RewardOutput
from limner.rewards.algebra.functions import Function, Group, Rank
from limner.rewards.algebra.tree import Expression, Sum

Compare: TypeAlias = Callable[[Media, Media, Sequence[Prompt]], RewardOutput]
"""Says how likely the first of two samples is better, in the same form."""


def wins(
    compare: Compare, media: Media, prompts: Sequence[Prompt], group: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Compare every pair of each group; return the share of its pairs that a sample wins, NaN if it has none."""
    first, second = ((group[:, None] == group[None, :]).triu(1)).nonzero().T
    won, met = torch.zeros(2, len(media), dtype=torch.float64)
    if len(first):
        output = compare(select(media, first), select(media, second), [prompts[i] for i in first.tolist()])
        share, told = output.score.nan_to_num(), output.valid.double()
        won = won.index_add(0, first, share * told).index_add(0, second, (1 - share) * told)
        met = met.index_add(0, first, told).index_add(0, second, told)
    return torch.where(met > 0, won / met.clamp(min=1), torch.nan)


def terms_of(expression: Expression) -> Sum:
    """Return the outermost sum of an expression, or that of itself alone."""
    return expression if isinstance(expression, Sum) else Sum(((1.0, expression),))


def within_groups(expression: Expression, by: type[Function]) -> Expression:
    """Return the sum whose terms are compared within groups `by` a function, so that no scale of a reward decides.

    2 * a + b by Group is 2 * group(a) + group(b), the reward of GDPO; by Rank that of Pref-GRPO. A constant, which no
    comparison sees, leaves, and a term that compares already stays what it is.
    """
    terms = ((weight, part if part.grouped else by((part,))) for weight, part in terms_of(expression).terms)
    return _sum(tuple(terms))


def plain(expression: Expression) -> Expression:
    """Return the sum of what terms compare by their value or rank: of 2 * group(a) + rank(b) it is 2 * a + b.

    It says how good a sample is by itself, which a comparison does not: reports show it.
    """
    whole = terms_of(expression)
    terms = ((weight, _compared(part)) for weight, part in whole.terms)
    return _sum(tuple(terms), whole.constant) if any(part.grouped for part in whole.parts) else expression


def _compared(part: Expression) -> Expression:
    return _compared(part.arguments[0]) if isinstance(part, Group | Rank) else part


def _sum(terms: tuple[tuple[float, Expression], ...], constant: float = 0.0) -> Expression:
    return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 and not constant else Sum(terms, constant)
