"""From the answers to a checklist to its score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from limner.rewards.vlm.forms import Mean, Question


def answers(questions: Sequence[Question], yes: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return s for each question, parents before children: P(yes), or 1 - P(yes) if the wanted answer is no.

    0 where a parent's s is below one half; NaN (it does not apply) where a mask's is, or a parent or mask does not
    apply itself; None where P(yes), or the s of a parent or mask that decides, is unknown.
    """
    found: dict[str, float | None] = {}
    for question in questions:
        masks = [found[question.mask]] if question.mask else []
        parents = [found[parent] for parent in question.parents]
        own = yes[question.id]
        if any(s is not None and (math.isnan(s) or s < 0.5) for s in masks):
            found[question.id] = math.nan
        elif any(s is not None and s < 0.5 for s in parents):
            found[question.id] = 0.0
        elif any(s is not None and math.isnan(s) for s in parents):
            found[question.id] = math.nan
        elif own is None or None in masks or None in parents:
            found[question.id] = None
        else:
            found[question.id] = own if question.answer else 1 - own
    return found


def mean(questions: Sequence[Question], s: Mapping[str, float | None], kind: Mean) -> float:
    """Return sum_i w_i s_i / sum_i w_i over the questions that apply, or exp(sum_i w_i log s_i / sum_i w_i).

    NaN if one that has a weight is unknown, or none that has one applies.
    """
    terms = [(question.weight, s[question.id]) for question in questions if question.weight]
    known = [(weight, value) for weight, value in terms if value is not None and not math.isnan(value)]
    total = sum(weight for weight, _ in known)
    if not total or any(value is None for _, value in terms):
        return math.nan
    if kind == "arithmetic":
        return sum(weight * value for weight, value in known) / total
    if any(value == 0 for _, value in known):
        return 0.0
    return math.exp(sum(weight * math.log(value) for weight, value in known) / total)
