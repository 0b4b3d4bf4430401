"""Terms of a reward that are compared within the group, each for itself: put in, and taken out again."""

from __future__ import annotations

from limner.rewards.algebra.functions import Function, Group, Rank
from limner.rewards.algebra.tree import Expression, Sum


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
