"""From a name to the thing it means, and back: a registry's name, `FILE.py:NAME`, or `package.module:NAME`."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limner.core.errors import UserError, nearest
from limner.registry.file import import_file, is_of_file

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def find(registry: Mapping[str, str], what: str, name: str) -> Any:
    """Return what `name` means; errors begin with `what` it is to be, as in "reward".

    Raises UserError, one line each: an unknown name; no such file or module; one that does not import, or lacks it.
    """
    place, separator, attribute = registry.get(name, name).rpartition(":")
    if not separator:
        raise UserError(f"unknown {what} {name!r}{nearest(name, registry)}")
    if not place or not attribute:
        raise UserError(f"{what} {name!r}: expected FILE.py:NAME or package.module:NAME")
    if not place.endswith(".py") and _DOTTED.fullmatch(place):
        found = _members_of_module(place, f"{what} {name!r}")
    else:
        found = import_file(Path(place), f"{what} {name!r}")
    if attribute not in found:
        public = [key for key, value in found.items() if callable(value) and not key.startswith("_")]
        hint = nearest(attribute, public) if public else "; it defines nothing"
        raise UserError(f"{what} {name!r}: {Path(place).name} has no {attribute!r}{hint}")
    return found[attribute]


def name_of(registry: Mapping[str, str], found: type) -> str:
    """Return the name by which `find` returns a class again. Raises UserError if it has none."""
    home = f"{found.__module__}:{found.__qualname__}"
    for name, known in registry.items():
        if known == home:
            return name
    module = sys.modules.get(found.__module__)
    of_file = found.__module__ == "__main__" or is_of_file(found.__module__)
    file = module.__file__ if module is not None and of_file and "__file__" in vars(module) else None
    if module is None or "." in found.__qualname__ or (of_file and file is None):
        raise UserError(
            f"{found.__qualname__} is defined in a session or a function, where a run's config.yaml cannot find it "
            "again: write it at the top of a .py file, and import it from there"
        )
    return f"{Path(file).resolve()}:{found.__qualname__}" if file else home


def require_seam(found: Any, members: tuple[str, ...], what: str) -> type:
    """Return a class that may stand in a configuration: a frozen dataclass with all `members`, or raise UserError."""
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        raise UserError(f"{what} is no dataclass: write @dataclass(frozen=True) above a class of that name")
    if not found.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise UserError(f"{what} is a dataclass that can be changed: write @dataclass(frozen=True)")
    has = {*dir(found), *(field.name for field in dataclasses.fields(found))}
    missing = [member for member in members if member not in has]
    if missing:
        raise UserError(f"{what} lacks {', '.join(missing)}; it must have {', '.join(members)}")
    return found


def _members_of_module(place: str, what: str) -> Mapping[str, Any]:
    try:
        return vars(importlib.import_module(place))
    except ImportError as error:
        raise UserError(f"{what}: cannot import {place} ({error})") from error
