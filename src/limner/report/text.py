"""How quantities are written, the same in the page, the card and the terminal."""

from __future__ import annotations

import math
from typing import NamedTuple

from limner.report.data import FEWEST, Interval, Kind, Row

ABSENT = "–"
UNKNOWN = "interval unknown"


def number(value: float, *, signed: bool = False) -> str:
    """Write a number with three significant digits, thousands separated, and a true minus sign."""
    if not math.isfinite(value):
        return ABSENT
    sign = "+" if signed and value >= 0 else ""
    size = abs(value)
    if size >= 1000:
        text = f"{value:{sign},.0f}"
    elif size != 0 and size < 1e-3:
        digits, power = f"{value:{sign}.1e}".split("e")
        text = f"{digits}e{int(power)}"
    else:
        decimals = 2 - math.floor(math.log10(size)) if size > 0 else 0
        text = f"{value:{sign}.{min(max(decimals, 0), 4)}f}"
    return text.replace("-", "−")


def quantity(value: float, kind: Kind) -> str:
    """Write a value: a rate as per cent with one decimal, anything else as a number."""
    if kind == "number" or not math.isfinite(value):
        return number(value)
    return f"{100 * value:.1f} %".replace("-", "−")


def difference(value: float, kind: Kind) -> str:
    """Write a signed difference: of rates in percentage points."""
    if kind == "number" or not math.isfinite(value):
        return number(value, signed=True)
    return f"{100 * value:+.1f} points".replace("-", "−")


def bounds(interval: Interval, kind: Kind) -> str:
    """Write the ends of an interval, without its unit."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return UNKNOWN
    if kind == "number":
        return f"{number(interval.low)} to {number(interval.high)}"
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}".replace("-", "−")


class Verdict(NamedTuple):
    """A sentence in three parts: what was measured, what may be said of it, and what that rests on."""

    subject: str
    claim: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.subject} {self.claim}{self.evidence}"


def verdict(row: Row | None) -> Verdict | None:
    """Say in one sentence what changed, and whether the interval lets us say so; None where nothing was measured."""
    if row is None or row.before is None or row.after is None or row.change is None:
        return None
    ends = f"{quantity(row.before.value, row.kind)} to {quantity(row.after.value, row.kind)}"
    known = bounds(row.change, row.kind)
    change = f"{difference(row.change.value, row.kind)} ({'' if known == UNKNOWN else '95 % interval '}{known})"
    over = f"measured on {prompts(row.change.n)}, the same seeds before and after"
    if row.change.n < FEWEST:
        claim = f"nothing can be said from fewer than {FEWEST} prompts"
        return Verdict(f"{row.label}:", claim, f"; from {ends}, {change}, {over}.")
    if not row.change.direction:
        return Verdict(row.label, "did not change measurably", f": from {ends}, {change}, {over}.")
    verb = "rose" if row.change.direction == "up" else "fell"
    return Verdict(row.label, f"{verb} from {ends}", f": {change}, {over}.")


def prompts(n: int) -> str:
    """Write how many prompts."""
    return f"{n:,} prompt{'s' if n > 1 else ''}"


def duration(seconds: float) -> str:
    """Write a time span for a person: 42 s, 3 min 07 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(value: int) -> str:
    """Write a count for a person: 9,500, 1.28 million."""
    for size, name in ((10**9, "billion"), (10**6, "million")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:,}"
