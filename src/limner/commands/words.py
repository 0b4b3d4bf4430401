"""What the words of a command line may be: each function reads one, or says what it needs, in one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

from limner.core.errors import shown
from limner.core.plain import real

MAX_LINE = 1000
"""Characters of a complaint."""
OF_EVERY_COMMAND = frozenset({"action", "version", "verb", "typed", "main"})
"""What a parsed command line says beside what its command was told."""


def told(parsed: argparse.Namespace) -> dict[str, Any]:
    """Return what a command was told, by the names of its own arguments."""
    return {name: value for name, value in vars(parsed).items() if name not in OF_EVERY_COMMAND}


def line(message: str) -> str:
    """Return a complaint on one line: what cannot be printed is escaped, the middle of what is very long left out."""
    said = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(message.split()))
    return said if len(said) <= MAX_LINE else f"{said[: MAX_LINE // 2]} ... {said[-MAX_LINE // 3 :]}"


def natural(text: str) -> int:
    """Read a whole number from 0, of 18 digits at most."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"needs a whole number from 0, got {shown(text)}")
    return int(text)


def count(text: str) -> int:
    """Read a whole number from 1, of 9 digits at most."""
    if not re.fullmatch("[1-9][0-9]{,8}", text):
        raise argparse.ArgumentTypeError(f"needs a whole number from 1, got {shown(text)}")
    return int(text)


def at_most(most: int) -> Callable[[str], int]:
    """Return what reads a whole number from 1 to `most`."""
    return between(1, most)


def between(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number from `least`, 1 or more, to `most`."""

    def some(text: str) -> int:
        if not least <= count(text) <= most:
            raise argparse.ArgumentTypeError(f"needs a whole number from {least} to {most}, got {shown(text)}")
        return count(text)

    return some


def port(text: str) -> int:
    """Read a port; 0 is any free one."""
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"needs a whole number from 0 to 65535, got {shown(text)}")
    return int(text)


def number(text: str) -> float:
    """Read a number."""
    try:
        return real(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"needs a number, got {shown(text)}") from None


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    if not 0 <= number(text) <= 1:
        raise argparse.ArgumentTypeError(f"needs a number from 0 to 1, got {shown(text)}")
    return number(text)


def positive(text: str) -> float:
    """Read a number above 0."""
    found = number(text)
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"needs a number above 0, got {shown(text)}")
    return found


def input_file(text: str) -> tuple[str, str]:
    """Read NAME=FILE."""
    name, separator, place = text.partition("=")
    if not (name and separator and place):
        raise argparse.ArgumentTypeError(f"needs NAME=FILE, as image=first.png, got {shown(text)}")
    return name, place


def prompt(text: str) -> str:
    """Read a text that UTF-8 can hold, and that says something."""
    if any("\ud800" <= c <= "\udfff" for c in text) or not text.strip():
        raise argparse.ArgumentTypeError(f"needs a text in UTF-8 that is not empty, got {shown(text)}")
    return text
