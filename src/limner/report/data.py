"""The nouns of a report: plain data that upper floors fill in and this room only draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jaxtyping import UInt8
from torch import Tensor

Kind = Literal["rate", "number"]
"""How a quantity is written: a share of [0, 1] as per cent, or a plain number."""

FEWEST = 5
"""Fewer prompts say nothing about others: an interval from so few rests on the shape it takes their results to have."""

Picture = UInt8[Tensor, "3 height width"]


@dataclass(frozen=True)
class Interval:
    """An estimate, its confidence interval (infinite if unknown), and the number of prompts it rests on."""

    value: float
    low: float
    high: float
    n: int

    @property
    def direction(self) -> Literal["up", "down", ""]:
        """Where a change points, if it can be told: not from fewer than `FEWEST` prompts, nor across zero."""
        if self.n < FEWEST:
            return ""
        return "up" if self.low > 0 else "down" if self.high < 0 else ""

    def to_dict(self) -> dict[str, float | None]:
        """Return it as JSON can say it: an end that is unknown is null."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}


@dataclass(frozen=True)
class Row:
    """One measure before and after training; `change` is the paired difference. What was not measured is None."""

    label: str
    before: Interval | None = None
    after: Interval | None = None
    change: Interval | None = None
    kind: Kind = "rate"
    note: str = ""


@dataclass(frozen=True)
class Pair:
    """One prompt at one seed, drawn before and after; a reward of None was not judged, and a file shows more."""

    prompt: str
    seed: int
    before: Picture
    after: Picture
    before_reward: float | None
    after_reward: float | None
    before_file: Path | None = None
    after_file: Path | None = None


@dataclass(frozen=True)
class Gallery:
    """Pairs that were chosen by one rule, which `note` states."""

    title: str
    note: str
    pairs: Sequence[Pair]


@dataclass(frozen=True)
class Series:
    """One line of a chart; `low` and `high`, if given, bound a band around `y`. NaN leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Chart:
    """Lines over iterations, or another `axis`.

    `domain` fixes the vertical axis, and `references` are drawn as quiet dashed lines.
    """

    title: str
    note: str
    series: Sequence[Series]
    kind: Kind = "number"
    domain: tuple[float, float] | None = None
    references: tuple[float, ...] = ()
    axis: str = "iteration"


@dataclass(frozen=True)
class Spent:
    """What a run cost, by phase; memory in MiB."""

    seconds: Mapping[str, float]
    network_evaluations: Mapping[str, int]
    peak_memory_mib: float | None = None
    foretold_memory_mib: float | None = None
    """The peak that the dry run foretold."""


@dataclass(frozen=True)
class Report:
    """All that `report.html` shows. The first row is the headline; an empty part is left out of the page."""

    title: str
    summary: str = ""
    rows: Sequence[Row] = ()
    categories: Sequence[Row] = ()
    diversity: Row | None = None
    galleries: Sequence[Gallery] = ()
    charts: Sequence[Chart] = ()
    spent: Spent | None = None
    config: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    notices: Sequence[str] = ()
    """What a reader must know before the numbers (a check that was overridden, samples that were not judged)."""
