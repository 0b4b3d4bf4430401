"""The functions of reward expressions, by the name that they are written with."""

from __future__ import annotations

from limner.rewards.algebra.against import Adversary, Closeness
from limner.rewards.algebra.functions import (
    Clip,
    Constrained,
    Function,
    Gate,
    Group,
    Lexicographic,
    Logistic,
    Pessimistic,
    Rank,
    Running,
    Scheduled,
    WinRate,
    Worst,
)

FUNCTIONS: dict[str, type[Function]] = {
    kind.name: kind
    for kind in (
        Gate, Constrained, Worst, Pessimistic, Lexicographic, Rank, WinRate, Group, Running, Logistic, Clip, Scheduled,
        Adversary, Closeness,
    )
}  # fmt: skip
