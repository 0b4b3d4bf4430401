"""A stranger's JSON, read strictly: what is not of the expected form is refused, and nothing is guessed at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from limner.core.errors import LimnerError
from limner.core.plain import once


class Refused(LimnerError):
    """A message that is not answered or not believed: an HTTP status, a code for programs, a text for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def malformed(message: str) -> NoReturn:
    """Raise Refused for what is not of the expected form."""
    raise Refused(400, "malformed", message)


def parsed(text: str | bytes) -> Any:
    """Return what a JSON text says."""
    try:
        return json.loads(text, parse_constant=lambda name: malformed(f"{name} is no JSON"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "malformed", "no JSON") from error


def fields(value: Any, where: str, *keys: str, maybe: str = "") -> Mapping[str, Any]:
    """Return an object that has exactly these keys, and perhaps the one of `maybe`."""
    if not isinstance(value, dict) or value.keys() - {maybe} != set(keys):
        malformed(f"{where} must have the keys {', '.join(keys)}, and no other")
    return value


def text(value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        malformed("something else where a text belongs")
    return value


def number(value: Any) -> float:
    """Return a number; null is NaN, and one too large for a float infinite. True and false are none."""
    if value is None:
        return math.nan
    if type(value) not in (int, float):
        malformed("something else where a number belongs")
    try:
        return float(value)
    except OverflowError:
        return math.inf
