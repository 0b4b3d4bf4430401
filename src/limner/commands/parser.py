"""What all commands share: a complaint that is one line, how a command is added, and the keys that it may take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from limner.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, raised."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


AddCommand = Callable[..., Parser]
"""(name, action, help, epilog) -> the parser of a new command; `action(parsed, values)` carries it out."""


def take_keys(arguments: Sequence[str], own: frozenset[str]) -> tuple[list[str], dict[str, Any]]:
    """Split off every `--key value`, `--key=value` and bare `--key` (True) whose flag is not in `own`."""
    rest: list[str] = []
    values: dict[str, Any] = {}
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        if not flag.startswith("--") or flag == "--" or flag in own:
            rest.append(word)
            continue
        has_value = not equals and bool(waiting) and not waiting[0].startswith("--")
        values[flag[2:].replace("-", "_")] = value if equals else waiting.pop(0) if has_value else True
    return rest, values


def add_trust(parser: Parser) -> None:
    """Add the flag of the commands that open a run."""
    parser.add_argument(
        "--trust-code", action="store_true", help="run code outside limner that RUN's config.yaml names"
    )
