"""How far people agree beyond what chance would give: kappas of two and of many, and Krippendorff's alpha."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from limner.core.errors import UserError

Level: TypeAlias = Literal["nominal", "ordinal", "interval", "ratio"]
Answers: TypeAlias = Mapping[str, Mapping[str, Hashable]]
"""Of each unit that was judged, what each observer said."""
Numbers: TypeAlias = np.ndarray[Any, Any]
RESAMPLES, AT_ONCE = 2000, 2**22
"""Draws of all units, and units that are drawn at once."""


class Alpha(NamedTuple):
    """Krippendorff's alpha, with its 95 % interval by a bootstrap over units; NaN where nothing was judged twice."""

    value: float
    low: float
    high: float


def cohen(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Return (p_o - p_e) / (1 - p_e), p_o the share of equal answers and p_e what it would be by chance; NaN of none.

    Source: Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20 (1960).
    """
    n = len(first)
    if n == 0:
        return math.nan
    seen = sum(a == b for a, b in zip(first, second, strict=True)) / n
    one, two = Counter(first), Counter(second)
    chance = sum(one[value] * two[value] for value in one) / n**2
    return (seen - chance) / (1 - chance) if chance < 1 else math.nan


def fleiss(counts: Sequence[Sequence[int]]) -> float:
    """Return Fleiss' kappa; `counts` says for each unit how many observers gave each answer, equally many for all.

    Source: Fleiss, Measuring nominal scale agreement among many raters, Psychological Bulletin 76 (1971).
    """
    raters = {sum(row) for row in counts}
    if not counts or len(raters) != 1 or min(raters) < 2:
        return math.nan
    n = raters.pop()
    seen = sum((sum(k * k for k in row) - n) / (n * (n - 1)) for row in counts) / len(counts)
    chance = sum((sum(column) / (n * len(counts))) ** 2 for column in zip(*counts, strict=True))
    return (seen - chance) / (1 - chance) if chance < 1 else math.nan


def krippendorff(answers: Answers, level: Level = "nominal", seed: int = 0) -> Alpha:
    """Return alpha = 1 - D_o / D_e, whoever judged what; answers are numbers unless the level is nominal.

    Of `RESAMPLES` draws of as many units as there are, with replacement, the middle 95 % are the interval. (His own
    bootstrap draws pairs of answers as if those of one unit were independent: of three observers its 95 % intervals
    hold the truth in 88 % of cases.)

    Source: Krippendorff, Content Analysis, chapter 11, as the package evalica has it; the interval is the percentile
    bootstrap of Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13, over units.
    """
    judged = {unit: said for unit, said in answers.items() if len(said) > 1}
    values = {value for said in judged.values() for value in said.values()}
    if len(values) < 2:
        return Alpha(math.nan, math.nan, math.nan)
    table = _table(judged, level)
    found = float(_evalica().alpha(table, distance=level).alpha)
    said = table.to_numpy(float)
    units, rng = said.shape[1], np.random.default_rng(seed)
    at_once = max(1, AT_ONCE // units)
    drawn = []
    for start in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - start)
        which = rng.integers(0, units, (rows, units)) + units * np.arange(rows)[:, None]
        drawn.append(alphas(said, np.bincount(which.ravel(), minlength=rows * units).reshape(rows, units), level))
    low, high = np.nanquantile(np.concatenate(drawn), [0.025, 0.975])
    return Alpha(found, float(low), float(high))


def alphas(said: Numbers, times: Numbers, level: Level = "nominal") -> Numbers:
    """Return alpha of each of several collections, in which unit u stands times[r, u] times.

        1 - (n - 1) sum_u d_u / sum_ij n_i n_j delta_ij,    d_u = sum_ij c_ui (c_uj - [i = j]) delta_ij / (m_u - 1)

    `said` is (observers, units), NaN where nothing was said, of units that two or more judged; c_ui of them said i of
    unit u, m_u = sum_i c_ui, n_i = sum_u c_ui. An ordinal delta is that of all units. NaN: all said the same.
    """
    values = np.unique(said[~np.isnan(said)])
    counts = (said.T[:, :, None] == values).sum(1).astype(float)
    apart = _deltas(values, counts.sum(0), level)
    disagreed = ((counts @ apart) * counts).sum(1) / (counts.sum(1) - 1)  # delta_ii is 0
    each = times @ counts
    with np.errstate(invalid="ignore"):
        return np.asarray(1 - (each.sum(1) - 1) * (times @ disagreed) / ((each @ apart) * each).sum(1))


def _deltas(values: Numbers, counts: Numbers, level: Level) -> Numbers:
    """Return the squared difference of each two values at a level of measurement; `counts` are how often each is."""
    one, two = values[:, None], values[None, :]
    if level == "nominal":
        return (one != two).astype(float)
    if level == "interval":
        return (one - two) ** 2
    if level == "ratio":
        return ((one - two) / np.where(one + two == 0, 1.0, one + two)) ** 2
    between = np.abs(np.cumsum(counts)[:, None] - np.cumsum(counts)[None, :])
    # of the values from i to j, both half: between them lie cum_j - cum_i + n_i, less half of n_i and n_j
    half = (np.triu(counts[:, None] - counts[None, :], 1) + np.tril(counts[None, :] - counts[:, None], -1)) / 2
    return (between + half) ** 2


def of_three(answers: Answers, values: Sequence[Hashable]) -> list[list[int]]:
    """Return the counts that `fleiss` takes, of the units that as many observers judged as judged most often."""
    sizes = Counter(len(said) for said in answers.values() if len(said) > 1)
    if not sizes:
        return []
    most = max(sizes, key=lambda size: (sizes[size], size))
    units = [list(said.values()) for said in answers.values() if len(said) == most]
    return [[unit.count(value) for value in values] for unit in units]


def between(answers: Answers) -> dict[tuple[str, str], float]:
    """Return Cohen's kappa of each two observers, over what both judged."""
    people = sorted({person for said in answers.values() for person in said})
    found = {}
    for i, one in enumerate(people):
        for two in people[i + 1 :]:
            both = [(said[one], said[two]) for said in answers.values() if one in said and two in said]
            kappa = cohen([a for a, _ in both], [b for _, b in both])
            if not math.isnan(kappa):
                found[one, two] = kappa
    return found


def _table(answers: Answers, level: Level) -> Any:
    """Return a row for each observer and a column for each unit; what is nominal is numbered."""
    from pandas import DataFrame

    values = sorted({value for said in answers.values() for value in said.values()}, key=repr)
    numbers: Mapping[Hashable, Any] = {v: v if level != "nominal" else float(i) for i, v in enumerate(values)}
    people = sorted({person for said in answers.values() for person in said})
    rows = [[numbers[said[each]] if each in said else math.nan for said in answers.values()] for each in people]
    return DataFrame(rows, index=people, columns=list(answers), dtype=float)


def _evalica() -> Any:
    try:
        import evalica
    except ModuleNotFoundError as error:
        raise UserError(f"agreement needs {error.name}: pip install 'limner[annotate]'") from error
    return evalica
