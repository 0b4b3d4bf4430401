"""Prompt files: one prompt a line (`.txt`), or one JSON object a line (`.jsonl`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from limner.core.errors import UserError
from limner.core.types import Prompt


def read_prompts(path: str | Path) -> list[Prompt]:
    """Return the prompts of a file, in order; equal ones are kept.

    `.txt`: one a line; blank lines and lines that start with `#` are skipped. `.jsonl`: one object a line, its text
    under "prompt" (or, without that key, "text"); all other keys become `meta`, which rewards can read.
    Raises UserError, one line each, for a file that is missing, unreadable, not UTF-8, malformed (with the line's
    number), or without prompts.
    """
    path = Path(path).expanduser()
    if path.suffix not in (".txt", ".jsonl"):
        raise UserError(f"prompts {path}: unknown suffix {path.suffix!r}; use .txt (a prompt a line) or .jsonl")
    lines = [(number, line.strip()) for number, line in enumerate(_read(path).split("\n"), 1)]
    if path.suffix == ".txt":
        prompts = [Prompt(line) for _, line in lines if line and not line.startswith("#")]
    else:
        prompts = [_parse(line, f"prompts {path}, line {number}") for number, line in lines if line]
    if not prompts:
        raise UserError(f"prompts {path}: the file holds no prompt")
    return prompts


def _read(path: Path) -> str:
    if not path.exists():
        raise UserError(f"prompts {path}: no such file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"prompts {path}: cannot read it: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"prompts {path}: not UTF-8 text (byte {error.start})") from error
    if "\0" in text:
        raise UserError(f"prompts {path}: a binary file, not UTF-8 text")
    return text


def _parse(line: str, where: str) -> Prompt:
    """Return the prompt of one JSON line."""
    try:
        entry: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(entry, dict):
        raise UserError(f'{where}: expected an object like {{"prompt": "two red stars"}}, got {type(entry).__name__}')
    key = "prompt" if "prompt" in entry else "text"
    if key not in entry:
        keys = ", ".join(sorted(entry)) or "none"
        raise UserError(f'{where}: no key "prompt" or "text" (keys: {keys})')
    text = entry.pop(key)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f'{where}: "{key}" must be a text that is not empty, got {text!r}')
    return Prompt(text.strip(), entry)
