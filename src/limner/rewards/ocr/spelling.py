"""What a prompt wants written, and how far a reading is from it: letters and digits only, upper case."""

from __future__ import annotations

import re
import unicodedata

from limner.core.types import Prompt

_QUOTED = re.compile(r'["“”]([^"“”]*)["“”]')


def wanted_text(prompt: Prompt) -> str:
    """Return the letters and digits that a prompt wants written; none if it does not say."""
    return normalised(str(prompt.meta["text"]) if "text" in prompt.meta else "".join(_QUOTED.findall(prompt.text)))


def normalised(text: str) -> str:
    """Return the letters and digits of a text, in upper case and Unicode's plain forms (NFKC)."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).upper()))


def compare(read: str, wanted: str) -> dict[str, float]:
    """Return the similarity and the components of one normalised reading; `wanted` is not empty."""
    # A substitution that costs as much as to leave one letter out and put one in leaves len + len - 2 common letters.
    common = (len(read) + len(wanted) - edit_distance(read, wanted, substitution=2)) / 2
    return {
        "similarity": 1.0 - edit_distance(read, wanted) / max(len(read), len(wanted)),
        "exact": float(read == wanted),
        "recall": common / len(wanted),
        "precision": common / len(read) if read else 0.0,
        "read_length": float(len(read)),
    }


def edit_distance(a: str, b: str, substitution: int = 1) -> int:
    """Return the least cost of turning one text into the other; to insert or leave out a letter costs 1."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        above, row = row, [i]
        for j, other in enumerate(b, 1):
            row.append(min(above[j - 1] + substitution * (letter != other), above[j] + 1, row[-1] + 1))
    return row[-1]
