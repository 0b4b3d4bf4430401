"""Settings: frozen dataclasses whose numbers have their range where they are declared.

    @settings
    class Optimizer:
        lr: Annotated[float, Range(above=0, below=1)] = 3e-4

Whoever makes one, from text or in Python, meets the range. Objects that a class of the user's own may make are `Named`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeAlias, TypeVar, dataclass_transform, get_args, get_type_hints

from limner.core.errors import UserError

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
        said = ["finite" if math.isinf(bound) else f"{word} {bound:g}" for word, bound in bounds]
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


Count: TypeAlias = Annotated[int, Range(least=1)]
Natural: TypeAlias = Annotated[int, Range(least=0)]
Positive: TypeAlias = Annotated[float, Range(above=0)]
NotNegative: TypeAlias = Annotated[float, Range(least=0, below=math.inf)]
Finite: TypeAlias = Annotated[float, Range(above=-math.inf, below=math.inf)]
Share: TypeAlias = Annotated[float, Range(least=0, below=1)]


@dataclass_transform(frozen_default=True)
def settings(kind: type[Kind]) -> type[Kind]:
    """Make `kind` a frozen dataclass that raises UserError for a number outside its range.

    Ranges are looked at before the class's own `__post_init__`, which is left with what concerns several numbers.
    """
    own: Callable[[Any], None] | None = vars(kind).get("__post_init__")

    def __post_init__(self: Any) -> None:
        _check(self)
        if own is not None:
            own(self)

    kind.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return dataclass(frozen=True)(kind)


def _check(value: Any) -> None:
    hints = get_type_hints(type(value), include_extras=True)
    for field in fields(value):
        number = vars(value)[field.name]
        several = isinstance(number, tuple)
        for allowed in get_args(hints[field.name])[1:]:
            if isinstance(allowed, Range) and not all(x in allowed for x in (number if several else [number])):
                raise UserError(f"{type(value).__name__}: {field.name} must be {allowed}, got {number}")
