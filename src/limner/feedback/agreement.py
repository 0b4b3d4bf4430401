"""How far people agree beyond what chance would give: kappas of two and of many, and Krippendorff's alpha."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from limner.core.errors import UserError

Level: TypeAlias = Literal["nominal", "ordinal", "interval", "ratio"]
Answers: TypeAlias = Mapping[str, Mapping[str, Hashable]]
"""Of each unit that was judged, what each observer said."""
RESAMPLES = 2000


class Alpha(NamedTuple):
    """Krippendorff's alpha, with its 95 % interval by his bootstrap; NaN where nobody judged what another judged."""

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

    Source: Krippendorff, Content Analysis, chapter 11; his bootstrap (2006); both as the package evalica has them.
    """
    judged = {unit: said for unit, said in answers.items() if len(said) > 1}
    values = {value for said in judged.values() for value in said.values()}
    if len(values) < 2:
        return Alpha(math.nan, math.nan, math.nan)
    found = _evalica().alpha_bootstrap(_table(judged, level), distance=level, n_resamples=RESAMPLES, random_state=seed)
    return Alpha(float(found.alpha), float(found.low), float(found.high))


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
