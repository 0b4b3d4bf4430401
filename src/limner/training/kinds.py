"""What kinds of prompts there are: how many of each, and one that stands for each in the dry run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limner.core.types import Prompt

FEW = 12
"""More categories than this are counted together."""


@dataclass(frozen=True)
class Tally:
    """The number of prompts, and of those of each category."""

    total: int
    categories: Mapping[str, int]

    def __str__(self) -> str:
        others = self.total - sum(self.categories.values())
        named = ", ".join(f"{name} {count:,}" for name, count in self.categories.items())
        named += f", {others:,} without a category" if others else ""
        told = f": {named}" if 0 < len(self.categories) <= FEW else f" of {len(self.categories)} categories"
        return f"{self.total:,}{told if self.categories else ''}"


def tally(prompts: Sequence[Prompt]) -> Tally:
    """Count prompts, in all and by category, in order of appearance."""
    return Tally(len(prompts), Counter(prompt.category for prompt in prompts if prompt.category is not None))


def kinds(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the first prompt of each kind: two are of one if they share their category and the form of their meta.

    A reward that reads meta which some prompts lack, or have in another form, fails on one of them.
    """
    first: dict[Hashable, Prompt] = {}
    for prompt in prompts:
        first.setdefault((prompt.category, _form(prompt.meta)), prompt)
    return list(first.values())


def _form(value: Any) -> Hashable:
    """Return keys and types of nested JSON, without its values and the lengths of its lists."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, _form(part)) for key, part in value.items()))
    if isinstance(value, (list, tuple)):
        return frozenset(_form(part) for part in value)
    return type(value).__name__
