"""A reward as an expression: what it is made of, immutable, and readable as text that parses back to itself.

    0.5 * scenes + 0.5 * scenes.fraction          a weighted sum; `.fraction` is a component of what `scenes` reports
    aesthetic ** 0.3 * scenes ** 0.7              a weighted geometric product
    gate(aesthetic, scenes >= 0.5)                a function; see `limner.rewards.algebra.functions`

The same is written in Python with `leaf("scenes")`, and in a recipe's `reward`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.cluster.place import Place
from limner.core.errors import UserError
from limner.rewards.algebra.frames import Reducer

Setting: TypeAlias = float | int | bool | str
ON_RAY = "ray"
"""What a judge stands in that is asked in workers of a Ray cluster."""
PLAIN = re.compile(r"(?!-)[\w./~-]*\w(:\w+)?")
"""A name of a judge, or FILE.py:FUNCTION, that needs no quotes."""


@dataclass(frozen=True)
class Scope:
    """What a node may know beside its parts: who is compared with whom, when, and what it remembers (`memory`).

    `columns` are the raw numbers of the judges, NaN where there is none; `references` those that they gave for data, by
    its name.
    """

    columns: Mapping[str, Float[Tensor, " batch"]]
    group: Int[Tensor, " batch"]
    step: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    references: Mapping[str, Mapping[str, Float[Tensor, " known"]]] = field(default_factory=dict)


class Expression:
    """A node. Arithmetic with numbers and other expressions makes new ones."""

    absolute: ClassVar[bool] = True
    """Whether its value depends on the sample alone: not on its group, the iteration, or what was seen before."""
    grouped: ClassVar[bool] = False
    """Whether it compares a sample with the others of its group."""
    signed: ClassVar[bool] = False
    """Whether it is centred, and so negative for about half of all samples."""

    @property
    def parts(self) -> tuple[Expression, ...]:
        """What it is computed from."""
        return ()

    def value(self, parts: Sequence[Float[Tensor, " batch"]], scope: Scope) -> Float[Tensor, " batch"]:
        """Return one number a sample from those of the parts; NaN where one of them is."""
        raise NotImplementedError

    def __add__(self, other: Expression | float) -> Sum:
        mine, theirs = _sum(self), _sum(other)
        weights: dict[Expression, float] = {}
        for weight, part in (*mine.terms, *theirs.terms):
            weights[part] = weights.get(part, 0.0) + weight
        return Sum(tuple((weight, part) for part, weight in weights.items()), mine.constant + theirs.constant)

    def __radd__(self, other: float) -> Sum:
        return self + other

    def __neg__(self) -> Sum:
        return -1.0 * self

    def __sub__(self, other: Expression | float) -> Sum:
        return self + -1.0 * other

    def __rsub__(self, other: float) -> Sum:
        return -self + other

    def __rmul__(self, other: float) -> Sum:
        mine = _sum(self)
        constant = other * mine.constant if mine.constant else 0.0  # infinity times 0 is no number
        return Sum(tuple((other * weight, part) for weight, part in mine.terms), constant)

    def __mul__(self, other: Expression | float) -> Sum | Product:
        if not isinstance(other, Expression):
            return other * self
        (weight, mine), (scale, theirs) = _scaled(self), _scaled(other)
        product = Product((*_factors(mine), *_factors(theirs)))
        return product if weight * scale == 1 else weight * scale * product

    def __truediv__(self, other: float) -> Sum:
        return 1 / other * self

    def __pow__(self, exponent: float) -> Product:
        return Product(tuple((part, exponent * power) for part, power in _factors(self)))

    def __ge__(self, threshold: float) -> Condition:
        return Condition(self, float(threshold))


@dataclass(frozen=True)
class Leaf(Expression):
    """A judge by its name (built in, or FILE.py:FUNCTION), with its settings; `over` reduces what it says of frames.

    `place` are the workers that it is asked in; None: this process.
    """

    name: str
    settings: tuple[tuple[str, Setting], ...] = ()
    over: Reducer | None = None
    place: Place | None = None

    @property
    def column(self) -> str:
        """The name of its column: without the folder and file of a function of yours, and without its place."""
        return self._written(self.name.rpartition(":")[2] if ".py:" in self.name else self.name)

    def value(self, parts: Sequence[Float[Tensor, " batch"]], scope: Scope) -> Float[Tensor, " batch"]:
        return scope.columns[self.column]

    def _written(self, name: str, place: Place | None = None) -> str:
        given = f"({', '.join(f'{key}={value!r}' for key, value in self.settings)})" if self.settings else ""
        judge = name + given if place is None else f"{ON_RAY}({', '.join([name + given, *_changed(place)])})"
        return self.over.written(judge) if self.over else judge

    def __str__(self) -> str:
        return self._written(self.name if PLAIN.fullmatch(self.name) else f'"{self.name}"', self.place)


@dataclass(frozen=True)
class Part(Expression):
    """A component that a judge reports beside its score."""

    leaf: Leaf
    name: str

    def value(self, parts: Sequence[Float[Tensor, " batch"]], scope: Scope) -> Float[Tensor, " batch"]:
        column = f"{self.leaf.column}/{self.name}"
        if column in scope.columns:
            return scope.columns[column]
        known = [name.partition("/")[2] for name in scope.columns if name.startswith(f"{self.leaf.column}/")]
        raise UserError(
            f"reward {self}: {self.leaf} has no component {self.name!r} (it reports: {', '.join(known) or 'none'})"
        )

    def __str__(self) -> str:
        return f"{self.leaf}.{self.name}"


@dataclass(frozen=True)
class Sum(Expression):
    """constant + sum_k weight_k part_k."""

    terms: tuple[tuple[float, Expression], ...]
    constant: float = 0.0

    def __post_init__(self) -> None:
        for number in (self.constant, *(weight for weight, _ in self.terms)):
            if not math.isfinite(number):
                raise UserError(f"reward: weights and constants must be finite numbers, got {number}")

    @property
    def parts(self) -> tuple[Expression, ...]:
        return tuple(part for _, part in self.terms)

    def value(self, parts: Sequence[Float[Tensor, " batch"]], scope: Scope) -> Float[Tensor, " batch"]:
        total = torch.full_like(parts[0], self.constant)
        for (weight, _), part in zip(self.terms, parts, strict=True):
            total = total + weight * part
        return total

    def __str__(self) -> str:
        written = [
            f"{'-' if weight < 0 else '+'}{'' if abs(weight) == 1 else _number(abs(weight)) + ' * '}{part}"
            for weight, part in self.terms
        ]
        written += [f"{'-' if self.constant < 0 else '+'}{_number(abs(self.constant))}"] if self.constant else []
        return " ".join([written[0].removeprefix("+"), *(f"{text[0]} {text[1:]}" for text in written[1:])])


@dataclass(frozen=True)
class Product(Expression):
    """prod_k max(part_k, 0) ** power_k: a weighted geometric mean if the powers add up to 1. One zero makes it 0."""

    factors: tuple[tuple[Expression, float], ...]

    def __post_init__(self) -> None:
        for part, power in self.factors:
            if not 0 < power < math.inf:
                raise UserError(f"reward {part} ** {power:g}: powers must be positive")
            if part.signed or (isinstance(part, Sum) and any(term.signed for term in part.parts)):
                raise UserError(f"reward {part} is negative for half of the samples, and cannot be a factor: add it")

    @property
    def parts(self) -> tuple[Expression, ...]:
        return tuple(part for part, _ in self.factors)

    def value(self, parts: Sequence[Float[Tensor, " batch"]], scope: Scope) -> Float[Tensor, " batch"]:
        powers = [part.clamp(min=0) ** power for part, (_, power) in zip(parts, self.factors, strict=True)]
        return torch.stack(powers).prod(0)

    def __str__(self) -> str:
        named = [(f"({part})" if isinstance(part, Sum) else str(part), power) for part, power in self.factors]
        return " * ".join(text if power == 1 else f"{text} ** {_number(power)}" for text, power in named)


@dataclass(frozen=True)
class Condition:
    """What is asked of an expression: to be at least `threshold`."""

    of: Expression
    threshold: float

    def __str__(self) -> str:
        return f"{self.of} >= {_number(self.threshold)}"


def leaf(name: str, **settings: Setting) -> Leaf:
    """Return a judge as an expression: built in, or FILE.py:FUNCTION."""
    return Leaf(name, tuple(settings.items()))


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield the node and all below it."""
    yield expression
    for part in expression.parts:
        yield from walk(part)


def leaves(expression: Expression) -> list[Leaf]:
    """Return the judges it asks, each once."""
    found = (node.leaf if isinstance(node, Part) else node for node in walk(expression))
    return list(dict.fromkeys(node for node in found if isinstance(node, Leaf)))


def value_of(
    expression: Expression, scope: Scope, known: dict[Expression, Tensor] | None = None
) -> Float[Tensor, " batch"]:
    """Return the value of an expression, each node's computed once: those that are `known` are not computed again."""
    found: dict[Expression, Tensor] = {} if known is None else known
    if expression not in found:
        parts = [value_of(part, scope, found) for part in expression.parts]
        found[expression] = expression.value(parts, scope)
    return found[expression]


def _changed(place: Place) -> list[str]:
    """Return the settings of a place that are not the usual ones, as they are written."""
    usual, given = vars(Place()), vars(place)
    return [f"{key}={value!r}" for key, value in given.items() if value != usual[key]]


def _number(value: float) -> str:
    """Return the shortest text that reads as this number."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _sum(value: Expression | float) -> Sum:
    if isinstance(value, Sum):
        return value
    return Sum(((1.0, value),)) if isinstance(value, Expression) else Sum((), float(value))


def _scaled(part: Expression) -> tuple[float, Expression]:
    """Return (w, x) if the expression is w x, so that numbers stand before a product and not inside."""
    if isinstance(part, Sum) and len(part.terms) == 1 and not part.constant:
        return part.terms[0]
    return 1.0, part


def _factors(part: Expression) -> tuple[tuple[Expression, float], ...]:
    return part.factors if isinstance(part, Product) else ((part, 1.0),)
