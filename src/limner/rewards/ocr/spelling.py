"""What a prompt wants written, and how far a reading is from it: letters and digits only, upper case."""

from __future__ import annotations

import re
import unicodedata

from limner.core.types import Prompt

_MARKS, _SINGLE = '"“”„‟＂〝〞〟', "'‘’‚‛＇"
_PAIRS = ("«»", "»«", "‹›", "›‹", "「」", "『』", "｢｣", "﹁﹂", "﹃﹄")
_INCH = rf"(?<=\d)[{_MARKS}](?=[\s-][^{_MARKS}]*[^\W\d][{_MARKS}](?!\w))"
"""Within quotation marks: after a digit, with another mark to come that closes what is open."""
_QUOTED = re.compile(
    "|".join(
        [
            rf"(?<!\d)[{_MARKS}](?:[^{_MARKS}]|{_INCH})*[{_MARKS}]",  # after a digit it stands for inches
            *(f"{pair[0]}[^{pair}]*{pair[1]}" for pair in _PAIRS),
        ]
    )
)
_QUOTED_ONCE = re.compile(
    rf"(?<!\w)[{_SINGLE}](?=\S)(?:[^{_SINGLE}]|(?<=\w)[{_SINGLE}](?=\w))*(?<=\S)[{_SINGLE}](?!\w)|‘[^‘’]*’"
)
"""Between words a single mark is an apostrophe; in a script without spaces the two of a pair tell."""


def wanted_text(prompt: Prompt) -> str:
    """Return the letters and digits that a prompt wants written, as `meta["text"]` or its quotation marks say.

    Marks are those of Unicode's property Quotation_Mark, of any language and in order; single ones count only where
    there are no others. The inch sign (a 5" nail) and the apostrophe are none.
    """
    if "text" in prompt.meta:
        return normalised(str(prompt.meta["text"]))
    return normalised("".join(_QUOTED.findall(prompt.text) or _QUOTED_ONCE.findall(prompt.text)))


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
