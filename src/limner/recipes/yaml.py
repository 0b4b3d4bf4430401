"""A run's configuration as text and back, exactly: `config.yaml`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from limner.core.errors import UntrustedCode, UserError
from limner.core.paths import text_of
from limner.core.plain import MAX_BYTES, plain
from limner.core.settings import Named
from limner.recipes.override import MOVED, TYPE, Place, build, hints_of, named_of
from limner.registry.find import find, name_of
from limner.registry.names import REGISTRIES
from limner.training.config import RunConfig


def to_yaml(config: RunConfig) -> str:
    """Return the configuration as YAML: every key, and `type: FlowGRPO` where there is a choice of classes."""
    return yaml.safe_dump(_plain(config), sort_keys=False)


def from_yaml(text: str, source: str = "config.yaml", trusted: Collection[str] | None = None) -> RunConfig:
    """Return the configuration that `to_yaml` wrote; missing keys have their defaults.

    It may name classes of the user's own, whose code then runs: `trusted` are those that may; None: all, for the user
    says so. Raises UntrustedCode for another one, and UserError, which begins with `source`, if the text is not YAML, a
    key is unknown, or a value does not fit.
    """
    tree = plain(text, source)
    if not isinstance(tree, dict):
        raise UserError(f"{source} is not a run's configuration: it holds no keys")
    try:
        return build(RunConfig, _moved(tree), Place(trusted=trusted))
    except UntrustedCode as error:
        raise UntrustedCode(f"{source}: {error}") from None
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _moved(tree: dict[str, Any]) -> dict[str, Any]:
    """Return what an earlier version wrote under the keys of this one; a key that said nothing leaves."""
    if tree.get("aggregation") == "sum":
        del tree["aggregation"]
    for (section, old), (_, *between, new) in MOVED.items():
        held = tree.get(section)
        if not isinstance(held, dict) or (value := held.pop(old, None)) is None:
            continue
        for key in between:
            held[key] = held = {**there} if isinstance(there := held.get(key) or {}, dict) else {TYPE: there}
        held[new] = value
    return tree


def read_config(path: Path, trusted: Collection[str] | None = None) -> RunConfig:
    """Return the configuration in a file. Raises as `from_yaml` does, and UserError for a file that is no text."""
    return from_yaml(text_of(path, str(path), MAX_BYTES), str(path), trusted)


def written_config(file: Path, trusted: Collection[str] | None) -> RunConfig:
    """Return the configuration in a run folder's file. Raises UserError if it cannot be read, or has been cut."""
    text = text_of(file, str(file), MAX_BYTES)
    config = from_yaml(text, str(file), trusted)
    if not re.search(r"^out: .*\n", text, re.MULTILINE):
        raise UserError(f"{file} has been cut: its last key, out, is missing; put it back from a copy")
    return config


def changed_keys(config: RunConfig, file: Path) -> dict[str, str]:
    """Return what differs from a run folder's configuration, as "steps 5 instead of 3", by dotted key.

    Where the run is has no part in it. Of what the file names, what `config` names too is run, and nothing else.
    """
    try:
        written = written_config(file, code_of(config))
    except UntrustedCode as error:
        return {"": str(error)}
    was, now = (_flat(_plain(dataclasses.replace(each, out=""))) for each in (written, config))
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    return {key: f"{key} {now.get(key, 'left out')} instead of {was.get(key, 'nothing')}" for key in keys}


def _flat(tree: Any, place: str = "") -> dict[str, Any]:
    """Return the values of nested keys by dotted key."""
    if not isinstance(tree, dict):
        return {place: tree}
    parts = [_flat(part, f"{place}.{name}" if place else name) for name, part in tree.items()]
    return {key: value for part in parts for key, value in part.items()}


def code_of(config: RunConfig) -> frozenset[str]:
    """Return the names of all classes outside limner that a configuration holds objects of."""
    return frozenset(_foreign(config))


def _foreign(value: Any) -> Iterator[str]:
    if isinstance(value, tuple):
        for part in value:
            yield from _foreign(part)
    if not dataclasses.is_dataclass(value):
        return
    for field in dataclasses.fields(value):
        part, named = vars(value)[field.name], named_of(hints_of(type(value))[field.name])
        if named is not None and (name := _name(value, part, named)) not in {"", *REGISTRIES[named.registry]}:
            yield name
        yield from _foreign(part)


def _plain(value: Any) -> Any:
    """Return nested dataclasses and tuples as what YAML can hold."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if not dataclasses.is_dataclass(value):
        return value
    hints = hints_of(type(value))
    tree = {}
    for field in dataclasses.fields(value):
        part, named = vars(value)[field.name], named_of(hints[field.name])
        tree[field.name] = _plain(part)
        if named is None:
            continue
        name = _name(value, part, named)
        if not named.kind:
            tree[field.name] = {TYPE: name, **tree[field.name]}
        elif name not in REGISTRIES[named.registry]:
            tree[named.kind] = name
    return tree


def _name(value: Any, part: Any, named: Named) -> str:
    """Return what a configuration calls the class of `part`, a field of `value`; "" where nothing has been chosen."""
    registry = REGISTRIES[named.registry]
    if part is not None:
        return name_of(registry, type(part))
    kind = vars(value)[named.kind]
    return name_of(registry, find(registry, named.kind, kind)) if kind else ""
