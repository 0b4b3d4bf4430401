"""Settings: frozen dataclasses whose numbers have their range where they are declared.

    @settings
    class Optimizer:
        lr: Annotated[float, Range(above=0, below=1)] = 3e-4

Whoever makes one, from text or in Python, meets the range. Objects that a class of the user's own may make are `Named`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from numbers import Integral, Real
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from limner.core.errors import UserError, shown

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`, both included, or beyond `above` and `below`, both left out."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        """Whether `value` lies in the range; NaN lies in none."""
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """Return what a number of the range is: "at least 1", "above 0 and below 1", "finite"."""
        words = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        bounds = [(word, bound) for word, bound in words.items() if bound is not None]
        said = ["finite" if math.isinf(bound) else f"{word} {_written(bound)}" for word, bound in bounds]
        return " and ".join(dict.fromkeys(said))


@dataclass(frozen=True)
class Named:
    """Marks such a field, `algorithm: Annotated[Algorithm, Named("algorithms")]`: which registry knows its names.

    Names are those of the registry, `my_file.py:MyAlgorithm`, and `package.module:MyAlgorithm`. The key `type` holds
    one, or, with `kind`, the field of that name beside this one; where it is empty, the index of the folder that the
    field `folder` names tells.
    """

    registry: str
    kind: str = ""
    folder: str = ""


MAX_COUNT = 10**8
"""Nothing that is counted in a configuration has more; what people type beyond it is a slip."""
Count: TypeAlias = Annotated[int, Range(least=1, most=MAX_COUNT)]
Natural: TypeAlias = Annotated[int, Range(least=0)]
Positive: TypeAlias = Annotated[float, Range(above=0, below=math.inf)]
Cap: TypeAlias = Annotated[float, Range(above=0)]
"""What a size is cut to; inf: nothing is cut."""
NotNegative: TypeAlias = Annotated[float, Range(least=0, below=math.inf)]
Finite: TypeAlias = Annotated[float, Range(above=-math.inf, below=math.inf)]
Share: TypeAlias = Annotated[float, Range(least=0, below=1)]


@dataclass_transform(frozen_default=True)
def settings(kind: type[Kind]) -> type[Kind]:
    """Make `kind` a frozen dataclass that raises UserError for a value of another type, or outside its range.

    Both are looked at before the class's own `__post_init__`, which is left with what concerns several values.
    """
    own: Callable[[Any], None] | None = vars(kind).get("__post_init__")

    def __post_init__(self: Any) -> None:
        require_declared(self)
        if own is not None:
            own(self)

    kind.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return dataclass(frozen=True)(kind)


def require_declared(value: Any) -> None:
    """Raise UserError for a field of a dataclass whose number, text or truth value is not what it is declared to be."""
    hints = get_type_hints(type(value), include_extras=True)
    for field in fields(value):
        hint, held = hints[field.name], vars(value)[field.name]
        said = f"{type(value).__name__}: {field.name}"
        if not _fits(hint, held):
            raise UserError(f"{said} must be {described(hint)}, got {shown(held)}")
        numbers = held if isinstance(held, tuple) else () if held is None else (held,)
        if not all(abs(int(number)) < MAX_INTEGER for number in numbers if isinstance(number, Integral)):
            raise UserError(f"{said} must be below 2^63, got {shown(held)}")
        for allowed in _ranges(hint):
            if not all(number in allowed for number in numbers):
                raise UserError(f"{said} must be {allowed}, got {shown(held)}")


def _ranges(hint: Any) -> Iterator[Range]:
    """Yield the ranges in a type, wherever they stand in it."""
    for part in get_args(hint):
        if isinstance(part, Range):
            yield part
        else:
            yield from _ranges(part)


def described(hint: Any) -> str:
    """Return what a value of a type is, for an error."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return described(parts[0])
    if kind in (Union, UnionType):
        return " or ".join(described(part) for part in parts)
    if kind is Literal:
        return " or ".join(map(repr, parts))
    if kind is tuple:
        return f"a tuple, of {described(parts[0])} each"
    return PLAIN.get(hint, hint.__name__ if isinstance(hint, type) else str(hint))


MAX_INTEGER = 2**63
"""Tensors hold smaller ones only."""
PLAIN = {bool: "true or false", int: "an integer", float: "a number", str: "text", type(None): "None"}


def _fits(hint: Any, value: Any) -> bool:
    """Tell whether a value is of a plain type, of several, or of settings; objects of other classes are not looked at.

    What a class of the user's own may make is settings, whatever their class.
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        if any(isinstance(part, Named) for part in parts):
            return (value is None and _fits(parts[0], None)) or (is_dataclass(value) and not isinstance(value, type))
        return _fits(parts[0], value)
    if kind in (Union, UnionType):
        return any(_fits(part, value) for part in parts)
    if kind is Literal:
        return value in parts
    if kind is tuple:
        each = (parts[0],) * len(value) if isinstance(value, tuple) and parts[-1] is Ellipsis else parts
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_fits, each, value))
    if isinstance(value, bool) and hint is not bool:
        return False
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real)
    if hint in PLAIN or is_dataclass(hint):
        return isinstance(value, hint)
    return value is not None


def _written(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
