"""What is asked of people, and what they may answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from limner.core.rng import fixed_share

Kind: TypeAlias = Literal["pair", "rate", "rank"]
"""Which of two; how good, from 1 to 5; in which order."""
Source: TypeAlias = Literal["random", "active", "gold", "repeat"]
"""Why it is asked: by chance, since it tells much, since the answer is known, or once more with sides swapped."""

MOST_RANKED = 9
"""Items of a ranking, which the keys 1 to 9 name."""
TIES = ("tie_good", "tie_bad")
"""Equally good; both bad."""
HELDOUT_SHARE = 0.2
"""Of all prompts, those that nothing is to be learned from."""
OVERALL = "overall"


@dataclass(frozen=True)
class Item:
    """A picture or clip. `source` says who made it, which no annotator is told; `facts` is what else is known of it."""

    path: Path
    prompt: str
    source: str
    sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Say which it is: by what it shows, what it was made for, and by whom."""
        return hashed(self.sha256, self.prompt, self.source)

    @property
    def moves(self) -> bool:
        """Tell whether it is a clip with controls of its own."""
        return self.path.suffix.lower() in CLIPS


CLIPS = {".mp4": "video/mp4", ".webm": "video/webm"}
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
MEDIA = PICTURES | CLIPS
"""What browsers show, and how it is called to them."""


@dataclass(frozen=True)
class Task:
    """One question: these items, for this prompt. `better` is the place of the item that is known to be better."""

    kind: Kind
    prompt: str
    items: tuple[str, ...]
    better: int | None = None

    @property
    def id(self) -> str:
        """Say which it is: the same items are the same question in whatever order."""
        return hashed(self.kind, self.prompt, *sorted(self.items))


@dataclass(frozen=True)
class Vote:
    """What somebody said of a pair, in the order of the task's items, whatever the sides were.

    `choices` has an answer for each question that was asked: 0 or 1 (the better item's place), or one of `TIES`.
    """

    task: str
    annotator: str
    items: tuple[str, str]
    choices: Mapping[str, int | str]
    left: int
    """The place of the item that was shown on the left."""
    source: Source
    propensity: float
    better: int | None
    latency_ms: int
    time: float
    """When it arrived, in seconds since 1970."""
    payload: Mapping[str, Any]


def held_out(prompt: str) -> bool:
    """Tell whether a prompt is for measuring: a number that it always has says so, as the training of rewards does."""
    return fixed_share(prompt) < HELDOUT_SHARE


def hashed(*parts: str) -> str:
    """Return 32 hexadecimal digits that stand for some texts, in order."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, 32 hexadecimal digits for what its files are called and hold."""
    if path.is_file():
        return file_hash(path)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return hashed(*(f"{each.relative_to(path)} {file_hash(each)}" for each in files))
