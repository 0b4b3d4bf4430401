"""What a judge says, sample by sample, as JSON: how it travels, and how it is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.types import RewardOutput
from limner.judging.strict import Refused, malformed, number

Row: TypeAlias = Mapping[str, Any]
"""What a judge says of one sample: an item of an answer without its id and its error."""

MAX_NAMES, MAX_NAME, MAX_TEXT = 256, 200, 10_000
"""Components (or maps) of a judge, and characters of a name and of an explanation: each becomes a column of a log."""


def to_rows(output: RewardOutput) -> list[dict[str, Any]]:
    """Return a judge's answer sample by sample, as JSON; absent is what it did not say."""
    valid = (output.valid & output.score.isfinite()).tolist()
    score, sigma = (
        _column(output.score),
        output.uncertainty if output.uncertainty is None else _column(output.uncertainty),
    )
    parts = {name: _column(values) for name, values in output.components.items()}
    maps = {name: values.detach().cpu().double().tolist() for name, values in output.maps.items()}
    rows: list[dict[str, Any]] = []
    for i, ok in enumerate(valid):
        row: dict[str, Any] = {"ok": ok} | ({"score": score[i]} if ok else {})
        row |= {"components": {name: values[i] for name, values in parts.items()}} if parts else {}
        row |= {"uncertainty": sigma[i]} if sigma is not None else {}
        row |= {"explanation": output.explanation[i]} if output.explanation else {}
        row |= (
            {"maps": {name: [[_finite(x) for x in line] for line in m[i]] for name, m in maps.items()}} if maps else {}
        )
        rows.append(row)
    return rows


def from_rows(rows: Sequence[Row]) -> RewardOutput:
    """Return the judge's answer that `to_rows` wrote, float64; what one sample lacks and another has is NaN or None.

    Raises Refused for anything that is not of that form.
    """
    score = torch.tensor([number(row.get("score")) for row in rows], dtype=torch.float64)
    valid = torch.tensor([row.get("ok") is True for row in rows], dtype=torch.bool) & score.isfinite()
    sigma, explanation = [row.get("uncertainty") for row in rows], [row.get("explanation") for row in rows]
    if not all(text is None or (isinstance(text, str) and len(text) <= MAX_TEXT) for text in explanation):
        malformed(f"an explanation that is no text of {MAX_TEXT} characters at most")
    return RewardOutput(
        score.masked_fill(~valid, torch.nan),
        valid,
        _merged(rows, "components", lambda values: _tensor([number(value) for value in values])),
        None if all(value is None for value in sigma) else _tensor([number(value) for value in sigma]),
        tuple(explanation) if any(text is not None for text in explanation) else (),
        _merged(rows, "maps", _maps),
    )


def _merged(rows: Sequence[Row], key: str, join: Callable[[list[Any]], Tensor]) -> dict[str, Tensor]:
    """Return the named values of all rows by name, in order of appearance; a row that lacks a name gives None."""
    named = [row.get(key, {}) for row in rows]
    if not all(isinstance(each, dict) for each in named):
        malformed(f"{key} that are no object")
    names = dict.fromkeys(name for each in named for name in each)
    if len(names) > MAX_NAMES or any(len(name) > MAX_NAME for name in names):
        malformed(f"more than {MAX_NAMES} {key}, or one whose name is longer than {MAX_NAME} characters")
    return {name: join([each.get(name) for each in named]) for name in names}


def _maps(values: list[Any]) -> Float[Tensor, "batch rows columns"]:
    maps = [None if value is None else _tensor(value) for value in values]
    shapes = {tuple(found.shape) for found in maps if found is not None}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        malformed("maps that are not of one shape [rows, columns]")
    blank = torch.full(next(iter(shapes)), torch.nan, dtype=torch.float64)
    return torch.stack([blank if found is None else found for found in maps])


def _tensor(value: Any) -> Tensor:
    """Return numbers, or equal lists of them, as float64; what is not finite is NaN."""
    try:
        found = torch.tensor(_numbers(value), dtype=torch.float64)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(400, "malformed", "lists that are not rectangular") from error
    return found.masked_fill(~found.isfinite(), torch.nan)


def _numbers(value: Any) -> Any:
    return [_numbers(each) for each in value] if isinstance(value, list) else number(value)


def _column(values: Tensor) -> list[float | None]:
    return [_finite(value) for value in values.detach().cpu().double().tolist()]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
