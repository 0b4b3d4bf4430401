"""What is asked for, how it is split into train and held out, and the little English that writing it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from limner.core.rng import fixed_share
from limner.core.types import Prompt

Split = Literal["train", "heldout"]

HELDOUT_SHARE = 0.2
PER_CATEGORY: Mapping[Split, int] = {"train": 40, "heldout": 12}

_SALT = "limner everyday 0"
"""Of 0, 1, 2, ... the first that leaves every category enough combinations on either side."""
_PLURALS = {"knife": "knives", "sheep": "sheep", "mouse": "mice", "man": "men", "child": "children"}


@dataclass(frozen=True)
class Asked:
    """A prompt before it is chosen: `combination` is what it asks for, equal for all ways to say the same thing."""

    category: str
    combination: str
    text: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_heldout(self) -> bool:
        """Whether its combination belongs to the held-out split, however it is worded."""
        return fixed_share(f"{_SALT}: {self.category}: {self.combination}") < HELDOUT_SHARE

    def to_prompt(self) -> Prompt:
        """Return the prompt, its category beside it."""
        return Prompt(self.text, {"category": self.category, **self.meta})


def chosen(asked: Iterable[Asked], split: Split, per_category: int | None = None) -> list[Prompt]:
    """Return the first so many prompts of each category and split in hash order, categories in the order they come.

    None means `PER_CATEGORY`, 40 to train on and 12 held out; there are never more.
    """
    limit = PER_CATEGORY[split] if per_category is None else min(PER_CATEGORY[split], per_category)
    families: dict[str, list[Asked]] = {}
    for each in asked:
        family = families.setdefault(each.category, [])
        if each.is_heldout == (split == "heldout"):
            family.append(each)
    ordered = (sorted(family, key=lambda one: draw("order", one.combination)) for family in families.values())
    return [each.to_prompt() for family in ordered for each in family[:limit]]


def draw(what: str, combination: str) -> float:
    """Return the number in [0, 1) by which something about a combination is decided."""
    return fixed_share(f"{_SALT} {what}: {combination}")


def pick(what: str, combination: str, options: tuple[str, ...]) -> str:
    """Return the option that a combination always has."""
    return options[int(draw(what, combination) * len(options))]


def singular(noun: str) -> str:
    """Return "an apple" of "apple"; no noun or adjective here begins with a vowel that is not spoken as one."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """Return "wine glasses" of "wine glass"."""
    *before, last = noun.split(" ")
    ending = "es" if last.endswith(("s", "sh", "ch", "x")) else "s"
    return " ".join([*before, _PLURALS.get(last, last + ending)])
