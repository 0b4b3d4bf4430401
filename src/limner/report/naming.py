"""What files of samples are called: after their prompt, whatever its script, and like nothing that is there."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from limner.core.errors import UserError

MOST_BYTES = 120
"""A file's name has 255, and other parts."""


def file_name(text: str) -> str:
    """Return a text as a file's name: small letters and digits of any script, a hyphen between."""
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", text.lower())).strip("-")
    return words.encode()[:MOST_BYTES].decode(errors="ignore").rstrip("-") or "empty"


def free(stem: Path, seeds: Sequence[int], suffix: str, named: bool) -> tuple[Path | None, list[Path]]:
    """Return where a sheet goes, if there are several samples, and a file a sample; none of them is there yet.

    A sample is STEM-SEED, or STEM itself if it is the only one of a stem that a user `named`; the sheet is STEM.png.
    Raises UserError if something is there that a user named; other stems get a number until they are free.
    """
    for number in itertools.count(1):
        tried = stem if number == 1 else stem.with_name(f"{stem.name}_{number}")
        paths = [tried.with_name(f"{tried.name}-{seed}{suffix}") for seed in seeds]
        if named and len(paths) == 1:
            paths = [tried.with_name(f"{tried.name}{suffix}")]
        sheet = tried.with_name(f"{tried.name}.png") if len(paths) > 1 else None
        there = [path for path in (*paths, sheet) if path is not None and path.exists()]
        if there and named:
            raise UserError(f"{there[0]} is there already, and nothing is written over: give another --out")
        if not there:
            return sheet, paths
    raise AssertionError("numbers do not end")
