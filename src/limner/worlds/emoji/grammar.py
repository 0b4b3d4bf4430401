"""The language of the emoji world: which pictures there are, what they are called, and which are held out.

`benchmarks/emoji_data.py` made both files from npm's @lobehub/fluent-emoji-3d and emojibase-data, and says how.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limner.core.errors import UserError
from limner.core.types import Prompt, Vocabulary

Split = Literal["train", "heldout"]
Part = Literal["a", "b", "heldout"]

SIZE = 64
TAGS = 2
"""Tags in a prompt, at most; and in a training caption."""
LENGTH = 15
"""Words and commas of a caption, at most: what is said last gives way."""
CANONICAL_SHARE = 0.5
"""Share of training captions that are worded as a prompt is; the others say the label and any of the rest."""

FOLDER = Path(__file__).parent
"""Of the pictures, their captions, and the judges' weights."""


@dataclass(frozen=True)
class Emoji:
    """A picture's name: `label`, `kind` (Unicode's subgroup), and `tags`, rarest first; all in plain lower case words.

    `code` are its code points, `group` Unicode's group. Pictures of one `family` look alike, and lie in one `part`.
    """

    code: str
    label: str
    kind: str
    tags: tuple[str, ...]
    group: str
    family: str
    part: Part

    @property
    def caption(self) -> str:
        """Its caption as a prompt words it: "red apple, food fruit, diet, health"."""
        return phrase(self.label, (self.kind, *self.tags[:TAGS]))


def phrase(label: str, rest: Sequence[str]) -> str:
    """Return a label and what else is said, separated by commas, as much of it as `LENGTH` allows."""
    said = [label]
    for each in rest:
        if sum(len(text.split()) + 1 for text in (*said, each)) <= LENGTH + 1:
            said.append(each)
    return ", ".join(said)


@functools.cache
def emojis() -> tuple[Emoji, ...]:
    """Return all emoji, in the order of their pictures."""
    lines = (FOLDER / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return tuple(Emoji(**{**row, "tags": tuple(row["tags"])}) for row in rows)


@functools.cache
def pictures() -> NDArray[np.uint8]:
    """Return all pictures on white, sRGB, `[n, 64, 64, 3]`."""
    sheet = np.asarray(Image.open(FOLDER / "pictures.webp").convert("RGB"))
    columns = sheet.shape[1] // SIZE
    grid = sheet.reshape(-1, SIZE, columns, SIZE, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid.reshape(-1, SIZE, SIZE, 3)[: len(emojis())])


@functools.cache
def families(*parts: Part) -> tuple[tuple[int, ...], ...]:
    """Return the rows of each family of these parts; the first row stands for it: the one of the fewest code points."""
    found: dict[str, list[int]] = {}
    for row, emoji in enumerate(emojis()):
        if emoji.part in parts:
            found.setdefault(emoji.family, []).append(row)
    return tuple(tuple(sorted(rows, key=_plainness)) for rows in found.values())


def _plainness(row: int) -> tuple[int, str]:
    code = emojis()[row].code
    return code.count("-"), code


def to_prompt(emoji: Emoji) -> Prompt:
    """Return the prompt of an emoji."""
    return Prompt(emoji.caption, {"code": emoji.code, "family": emoji.family, "category": emoji.group})


def prompts(split: Split, count: int | None = None) -> list[Prompt]:
    """Return the first `count` prompts of a split (None: all): one for each family, of the emoji that stands for it.

    Families of train are in an order of no meaning, those of heldout in that of their code points. Raises UserError
    if there are not so many.
    """
    chosen = families("heldout") if split == "heldout" else families("a", "b")
    count = len(chosen) if count is None else count
    if not 0 < count <= len(chosen):
        raise UserError(f"emoji prompts: {split} has {len(chosen)}, one a family, got count {count}")
    if split == "train":
        order = np.random.default_rng(0).permutation(len(chosen))
        chosen = tuple(chosen[i] for i in order)
    return [to_prompt(emojis()[rows[0]]) for rows in chosen[:count]]


def sample_emoji(rng: np.random.Generator) -> int:
    """Draw the row of an emoji of train, families equally likely."""
    chosen = families("a", "b")
    rows = chosen[int(rng.integers(len(chosen)))]
    return rows[int(rng.integers(len(rows)))]


def noisy_caption(row: int, rng: np.random.Generator, share: float) -> str:
    """Name the emoji, with probability `share` another one of train instead.

    Half of the captions are worded as prompts; the others say the label and up to three of kind and tags, in any order.
    """
    emoji = emojis()[_other(row, rng) if rng.random() < share else row]
    if rng.random() < CANONICAL_SHARE:
        return emoji.caption
    rest = (emoji.kind, *emoji.tags)
    some = rng.permutation(len(rest))[: int(rng.integers(0, TAGS + 2))]
    return phrase(emoji.label, [rest[i] for i in some])


def _other(row: int, rng: np.random.Generator) -> int:
    """Draw the row of an emoji of train that is of another family."""
    while True:
        other = sample_emoji(rng)
        if emojis()[other].family != emojis()[row].family:
            return other


def _vocabulary() -> Vocabulary:
    """Return every word that a training caption may say, a token each; others are spelt."""
    texts = [text for emoji in emojis() if emoji.part != "heldout" for text in (emoji.label, emoji.kind, *emoji.tags)]
    words = dict.fromkeys(word for text in texts for word in text.split())
    return Vocabulary((",",), tuple(words), LENGTH + 2)


VOCABULARY = _vocabulary()
