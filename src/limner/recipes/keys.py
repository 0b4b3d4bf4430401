"""All keys of a configuration, with what each takes, what it is and what it means: `limner keys`."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from limner.core.errors import UserError, nearest
from limner.core.settings import Range
from limner.learning.shared import SHARED
from limner.recipes.override import described, hints_of, keys_of, members_of, named_of
from limner.registry.declared import stated
from limner.registry.find import name_of
from limner.registry.names import REGISTRIES
from limner.training.config import RunConfig

WIDTH, INDENT = 100, "    "


@dataclass(frozen=True)
class Key:
    """A key, its value as the command line takes it, what else it takes, and its meaning; `default` is its class's."""

    name: str
    value: str
    default: str
    takes: str
    meaning: str


def keys(config: RunConfig, word: str = "") -> list[Key]:
    """Return the keys with `word` in their name, in the order of config.yaml. Raises UserError if there is none."""
    every = list(_keys(config))
    found = [key for key in every if word.lower().lstrip("-").replace("-", "_") in key.name]
    if not found:
        raise UserError(f"no key has {word!r} in its name{nearest(word, [key.name for key in every])}")
    return found


def text(found: list[Key]) -> str:
    """Return them for a person: the key as it would be set, what it takes, and below that its meaning."""
    lines = []
    for key in found:
        other = f"; {key.default} unless a recipe says otherwise" if key.default not in ("", key.value) else ""
        lines.append(f"--{key.name} {shlex.quote(key.value)}")
        for said in (f"{key.takes}{other}", key.meaning):
            lines.append(textwrap.fill(said, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT))
    return "\n".join(lines)


def _keys(config: RunConfig) -> Iterator[Key]:
    for path in keys_of(RunConfig, config):
        owner: Any = config
        for name in path[:-1]:
            owner = vars(owner)[name]
        hint = hints_of(type(owner))[path[-1]]
        field = next(each for each in dataclasses.fields(owner) if each.name == path[-1])
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        now, usual = (_written(hint, value) for value in (vars(owner)[path[-1]], default))
        yield Key(".".join(path), now, usual, _takes(hint), meaning(type(owner), path[-1]))


def meaning(kind: type, field: str) -> str:
    """Return what a class says of a field, or what it means wherever it occurs; "" if nobody says."""
    file = inspect.getsourcefile(kind)
    own = stated(Path(file), kind.__name__) if file is not None else {}
    return (own[field].meaning if field in own else "") or SHARED.get(field, "")


def _written(hint: Any, value: Any) -> str:
    """Return a value as it is typed; "" where there is none."""
    if value is dataclasses.MISSING:
        return ""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    named = named_of(hint)
    return name_of(REGISTRIES[named.registry], type(value)) if named is not None else str(value)


def _takes(hint: Any) -> str:
    """Return what a key takes."""
    if (named := named_of(hint)) is not None:
        return f"{', '.join(REGISTRIES[named.registry])}, or a class of yours as FILE.py:NAME"
    members = members_of(hint)
    kinds = [
        f"one of {', '.join(map(str, get_args(kind)))}" if get_origin(kind) is Literal else described(kind)
        for kind in members
        if kind is not type(None)
    ]
    marks = hint.__metadata__ if get_origin(hint) is Annotated else ()
    ranges = [str(mark) for mark in marks if isinstance(mark, Range)]
    return ", ".join([*kinds, *ranges, *(["or none"] if type(None) in members else [])])
