"""The language of the words world: which words there are, how a prompt asks for one, and which words are held out."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from limner.core.errors import UserError
from limner.core.rng import fixed_share
from limner.core.types import Prompt, Vocabulary

Split = Literal["train", "heldout"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CATEGORIES = ("3 letters", "4 letters", "5 letters")
PHRASINGS = (
    'a sign that says "{}"',
    'a card that reads "{}"',
    'a poster that says "{}"',
    'a sign that reads "{}"',
    'the word "{}"',
)
VOCABULARY = Vocabulary(
    ('"',), tuple(dict.fromkeys(word for phrase in PHRASINGS for word in phrase.split() if "{" not in word)), 13
)
"""Quoted words are spelt, a token a letter; those of the phrasings are whole: 4, 2 marks, 5 letters, begin and end."""
HELDOUT_SHARE = 0.15
NEAR_SHARE = 0.7
"""Share of wrong captions that ask for one of the `NUM_NEAR` train words most like the right one, not for any."""
NUM_NEAR = 8

_SALT = "limner words 146"
"""Of 0, 1, 2, ... the first whose held-out words have no letter, at a place in a word of a length, that train lacks."""


def caption(word: str, phrasing: int = 0) -> str:
    """Ask for the word in one of the phrasings; 0 is canonical."""
    return PHRASINGS[phrasing].format(word)


@functools.cache
def words(split: Split) -> Sequence[str]:
    """Return the split's words in hash order: common English words of three to five letters, upper case."""
    listed = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split()
    return tuple(word for word in sorted(listed, key=_rank) if is_heldout(word) == (split == "heldout"))


def is_heldout(word: str) -> bool:
    """Tell whether a word belongs to the held-out split; so do 15 % of all words, listed or not."""
    return _rank(word) < HELDOUT_SHARE


def to_prompt(word: str, phrasing: int = 0) -> Prompt:
    """Return the prompt of a word, with what the OCR reward needs in `meta`."""
    return Prompt(caption(word, phrasing), {"text": word, "category": f"{len(word)} letters"})


def prompts(split: Split, count: int | None = None) -> list[Prompt]:
    """Return the first `count` fixed prompts of a split, every word once before any comes again in another phrasing.

    None means every word once. Raises UserError if there are not so many.
    """
    chosen = words(split)
    count = len(chosen) if count is None else count
    if not 0 < count <= len(chosen) * len(PHRASINGS):
        raise UserError(
            f"words prompts: {split} has {len(chosen)} words in {len(PHRASINGS)} phrasings, got count {count}"
        )
    rounds = itertools.product(range(len(PHRASINGS)), enumerate(chosen))
    pairs = ((word, (place + turn) % len(PHRASINGS)) for turn, (place, word) in rounds)
    return [to_prompt(*pair) for pair in itertools.islice(pairs, count)]


def sample_word(rng: np.random.Generator, split: Split = "train") -> str:
    """Draw a word of the split, lengths equally likely."""
    length = int(rng.integers(3, 6))
    chosen = [word for word in words(split) if len(word) == length]
    return chosen[int(rng.integers(len(chosen)))]


def noisy_caption(word: str, rng: np.random.Generator, share: float) -> str:
    """Ask for the word in any phrasing, with probability `share` wrongly.

    A wrong caption names another train word, so that no caption looks wrong: often one with most of the letters.
    """
    phrasing = int(rng.integers(len(PHRASINGS)))
    return caption(_wrong(word, rng) if rng.random() < share else word, phrasing)


def _wrong(word: str, rng: np.random.Generator) -> str:
    """Draw a train word near to this one, or any other."""
    options = near(word) if rng.random() < NEAR_SHARE else [other for other in words("train") if other != word]
    return options[int(rng.integers(len(options)))]


@functools.cache
def near(word: str) -> Sequence[str]:
    """Return the train words of this length that have most letters in common with it, place by place."""
    others = [other for other in words("train") if len(other) == len(word) and other != word]
    return sorted(others, key=lambda other: sum(a != b for a, b in zip(word, other, strict=True)))[:NUM_NEAR]


@functools.cache
def _rank(word: str) -> float:
    """Return the fixed pseudo-random place of a word in [0, 1)."""
    return fixed_share(f"{_SALT}:{word}")
