"""Text files that people write, line by line: UTF-8, with a JSON object or a plain text on each line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from limner.core.errors import UserError
from limner.core.paths import text_of
from limner.core.plain import MAX_DEPTH, finite, once


def read_lines(path: Path, what: str) -> list[tuple[int, str]]:
    """Return the stripped lines of a file that are not blank, each with its number, from 1.

    LF, CR LF and CR alone end a line. Raises UserError for a file that is missing, unreadable or not UTF-8.
    """
    text = text_of(path, what)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # str.splitlines would cut at U+2028 too
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def parse_object(line: str, where: str) -> dict[str, Any]:
    """Return the JSON object that a line is. Raises UserError, which begins with `where`, if it is none."""
    try:
        entry = json.loads(line, parse_constant=_refuse, parse_float=finite, object_pairs_hook=once)
        json.dumps(entry, ensure_ascii=False).encode()  # half a surrogate pair cannot be written again
        _require_shallow(entry)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON: {error.msg} (column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON that can be read: {error}") from error
    if not isinstance(entry, dict):
        raise UserError(f'{where}: expected an object like {{"prompt": "two red stars"}}, got {type(entry).__name__}')
    return entry


def pop_text(entry: dict[str, Any], keys: tuple[str, ...], where: str) -> str:
    """Take the first of `keys` that is there out of the object; its value must be a text that is not empty."""
    found = [key for key in keys if key in entry]
    if not found:
        said = " or ".join(f'"{key}"' for key in keys)
        raise UserError(f"{where}: no key {said} (keys: {', '.join(sorted(entry)) or 'none'})")
    text = entry.pop(found[0])
    if not isinstance(text, str) or not text.strip():
        raise UserError(f'{where}: "{found[0]}" must be a text that is not empty, got {text!r:.60}')
    return text.strip()


def _require_shallow(entry: Any) -> None:
    """Raise ValueError for values within values so deep that whatever walks through them could run out of stack."""
    level = [entry]
    for _ in range(MAX_DEPTH):
        level = [part for each in level for part in _parts(each)]
    if level:
        raise ValueError(f"nested too deep: at most {MAX_DEPTH} values within values")


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
