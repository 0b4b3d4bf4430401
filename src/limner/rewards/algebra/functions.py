"""Functions of reward expressions: gates, worst of several, comparison within the group, normalisers, schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.settings import Count, Finite, NotNegative, require_declared
from limner.objectives.advantage import group_advantage
from limner.objectives.comparison import lexicographic_rate, win_rate
from limner.rewards.algebra.tree import Condition, Expression, Leaf, Scope

Column = Float[Tensor, " batch"]


@dataclass(frozen=True)
class Function(Expression):
    """A named function of expressions (given by position), at most one condition, and numbers (given by name)."""

    arguments: tuple[Expression, ...]

    name: ClassVar[str]
    count: ClassVar[tuple[int, int]] = (1, 1)
    """How many expressions it takes, at least and at most."""
    conditioned: ClassVar[bool] = False
    """Whether a condition `c >= number` follows them: c is its last part."""

    def __post_init__(self) -> None:
        require_declared(self)
        low, high = self.count
        if not low <= len(self.arguments) <= high:
            many = f"{low}" if low == high else f"{low} or more"
            raise UserError(
                f"reward {self.name}(...): takes {many} expression{'s' * (many != '1')}, got {len(self.arguments)}"
            )

    @property
    def parts(self) -> tuple[Expression, ...]:
        condition = vars(self).get("condition")
        return (*self.arguments, condition.of) if isinstance(condition, Condition) else self.arguments

    def __str__(self) -> str:
        own = [each for each in fields(self) if each.name not in ("arguments", "condition")]
        given = [f"{f.name}={vars(self)[f.name]!r}" for f in own if vars(self)[f.name] != f.default]
        condition = [str(vars(self)["condition"])] if self.conditioned else []
        return f"{self.name}({', '.join([*map(str, self.arguments), *condition, *given])})"

    def remembered(self, scope: Scope) -> dict[str, Any]:
        """Return what this node keeps from one iteration to the next; empty at first."""
        return scope.memory.setdefault(str(self), {})


@dataclass(frozen=True)
class Gate(Function):
    """x where c >= threshold, else `floor`; with soft = s > 0: floor + (x - floor) sigmoid((c - threshold) / s)."""

    condition: Condition
    soft: NotNegative = 0.0
    floor: Finite = 0.0

    name = "gate"
    conditioned = True

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        x, c = parts
        excess = c - self.condition.threshold
        reached = c.float() >= self.condition.threshold  # as float32: a judge's own 0.7 may be no nearer to 0.7
        opened = torch.sigmoid(excess / self.soft) if self.soft > 0 else reached.to(x) + 0 * c
        return self.floor + (x - self.floor) * opened


@dataclass(frozen=True)
class Constrained(Function):
    """x + multiplier min(0, c - threshold): x, subject to c >= threshold; with `mean`, x + multiplier (c - threshold).

    After each iteration integral <- clip(integral + rate (threshold - mean c), 0, limit), from `start` on: it grows
    while samples fall short on average, and decays when they exceed (dual ascent; Tessler et al., arXiv:1805.11074).
    The multiplier is clip(integral + proportional (threshold - mean c), 0, limit): the second term, of the present
    samples, damps what the first alone makes swing (Stooke et al., arXiv:2007.03964, alg. 2, without a derivative).

    Each sample is asked for c, and none gains by more than enough of it; with `mean` the samples are asked for it
    together, as the Lagrangian of a bound on the mean has it, and one may have less where another has more.
    """

    condition: Condition
    rate: NotNegative = 0.1
    limit: NotNegative = 10.0
    proportional: NotNegative = 0.0
    start: NotNegative = 0.0
    mean: bool = False

    name = "constrained"
    conditioned = True
    absolute = False

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        x, c = parts
        memory = self.remembered(scope)
        integral = memory.setdefault("multiplier", min(self.start, self.limit))
        slack = c - self.condition.threshold
        short = -float(slack[slack.isfinite()].mean()) if slack.isfinite().any() else 0.0
        memory["multiplier"] = min(max(integral + self.rate * short, 0.0), self.limit)
        multiplier = min(max(integral + self.proportional * short, 0.0), self.limit)
        return x + multiplier * (slack if self.mean else slack.clamp(max=0))


@dataclass(frozen=True)
class Worst(Function):
    """The least of its parts."""

    name = "worst"
    count = (2, 99)

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        return torch.stack(list(parts)).amin(0)


@dataclass(frozen=True)
class Pessimistic(Function):
    """mean - k std^power over its parts (an ensemble); of a single judge, score - k its own stated uncertainty^power.

    The variance divides by count - ddof: with ddof 0 the std is the population's, and with 1 the sample's.
    Source: Coste et al., arXiv:2310.02743, eq. 4, who subtract the variance: power 2.
    """

    k: Finite = 1.0
    ddof: NotNegative = 0
    power: NotNegative = 1.0

    name = "pessimistic"
    count = (1, 99)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.power <= 0 or not 0 <= self.ddof < max(2, len(self.arguments)):
            raise UserError(f"reward {self}: power must be above 0, and ddof from 0 to below the number of expressions")

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        if len(parts) > 1:
            stacked = torch.stack(list(parts))
            return stacked.mean(0) - self.k * stacked.std(0, correction=self.ddof) ** self.power
        (judge,) = self.arguments
        column = f"{judge.column}/uncertainty" if isinstance(judge, Leaf) else ""
        if column not in scope.columns:
            raise UserError(f"reward {self}: {judge} states no uncertainty; give several judges, an ensemble")
        return parts[0] - self.k * scope.columns[column] ** self.power


@dataclass(frozen=True)
class Lexicographic(Function):
    """The share of its group that a sample beats by its first part that differs by more than `tolerance`.

    A tie counts one half; the last part decides by any difference. See `lexicographic_rate`.
    """

    tolerance: NotNegative = 0.0

    name = "lexicographic"
    count = (2, 99)
    absolute = False
    grouped = True

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        valid = torch.stack(list(parts)).isfinite().all(0)
        rate = lexicographic_rate(list(parts), scope.group, valid, self.tolerance)
        return rate.masked_fill(~valid, torch.nan)


@dataclass(frozen=True)
class Rank(Function):
    """The share of its group that a sample beats, a tie counting one half: the rank, from 0 to 1."""

    name = "rank"
    absolute = False
    grouped = True

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        valid = parts[0].isfinite()
        return win_rate(parts[0], scope.group, valid).masked_fill(~valid, torch.nan)


@dataclass(frozen=True)
class WinRate(Function):
    """The share of its group that a sample beats, as a comparer says: every pair is compared, a tie counts one half.

    Source: Pref-GRPO, arXiv:2508.20751, eq. 6.
    """

    name = "win_rate"
    absolute = False
    grouped = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.arguments[0], Leaf):
            raise UserError(f"reward {self}: takes a judge that compares, as in win_rate(vlm_pairwise(url=...))")

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        return parts[0]


@dataclass(frozen=True)
class Group(Function):
    """(x - mean) / (std + epsilon) within the group, sample standard deviation; 0 where all are alike.

    The lowest floor(trim n) of a group's n samples are left out of its mean and std; see `group_advantage`.
    Source: GDPO, arXiv:2601.05242, whose advantage is the sum of such terms, normalised over the batch (`scale`
    "batch", `ddof` 1 of an algorithm).
    """

    epsilon: float = 1e-4
    trim: float = 0.0

    name = "group"
    absolute = False
    grouped = True
    signed = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.epsilon < torch.inf and 0 <= self.trim < 1):
            raise UserError(f"reward {self}: epsilon must be at least 0, and trim a share from 0 to below 1")

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        valid = parts[0].isfinite()
        z = group_advantage(parts[0], scope.group, valid, "group", 1, self.epsilon, self.trim)
        return z.masked_fill(~valid, torch.nan)


@dataclass(frozen=True)
class Running(Function):
    """(x - m) / (s + 1e-8), with mean m and standard deviation s of all samples judged so far, these included."""

    name = "running"
    absolute = False
    signed = True

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        memory = self.remembered(scope)
        seen = parts[0][parts[0].isfinite()].double()
        count, mean, squares = (memory.setdefault(key, 0.0) for key in ("count", "mean", "squares"))
        if len(seen):  # Chan's rule for joining the moments of two sets
            shift, both = float(seen.mean()) - mean, count + len(seen)
            squares += float((seen - seen.mean()).square().sum()) + shift**2 * count * len(seen) / both
            mean += shift * len(seen) / both
            memory |= {"count": both, "mean": mean, "squares": squares}
            count = both
        return (parts[0] - mean) / ((squares / max(count, 1)) ** 0.5 + 1e-8)


@dataclass(frozen=True)
class Logistic(Function):
    """sigmoid(slope (x - midpoint)): a probability, if slope and midpoint were fitted to people's choices."""

    slope: Finite = 1.0
    midpoint: Finite = 0.0

    name = "logistic"

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        return torch.sigmoid(self.slope * (parts[0] - self.midpoint))


@dataclass(frozen=True)
class Clip(Function):
    """x, at least `low` and at most `high`."""

    low: float = -torch.inf
    high: float = torch.inf

    name = "clip"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.low <= self.high:
            raise UserError(f"reward {self}: low must not be above high")

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        return parts[0].clamp(self.low, self.high)


@dataclass(frozen=True)
class Scheduled(Function):
    """w x, where w moves in a straight line from `first` to `last` in the first `steps` iterations, and stays."""

    first: Finite = 0.0
    last: Finite = 1.0
    steps: Count = 10

    name = "scheduled"
    absolute = False

    def value(self, parts: Sequence[Column], scope: Scope) -> Column:
        share = min(1.0, scope.step / max(1, self.steps))
        return (self.first + share * (self.last - self.first)) * parts[0]
