"""A run's configuration as text and back, exactly: `config.yaml`."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import yaml

from limner.core.errors import UserError
from limner.recipes.override import TYPE, Place, build, members_of
from limner.training.config import RunConfig


def to_yaml(config: RunConfig) -> str:
    """Return the configuration as YAML: every key, and `type: FlowGRPO` where there is a choice of classes."""
    return yaml.safe_dump(_plain(config), sort_keys=False)


def from_yaml(text: str, source: str = "config.yaml") -> RunConfig:
    """Return the configuration that `to_yaml` wrote; missing keys have their defaults.

    Raises UserError, which begins with `source`, if the text is not YAML, a key is unknown, or a value does not fit.
    """
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        where = f", line {mark.line + 1}: {error.problem}" if mark else f": {error}"
        raise UserError(f"{source} is not YAML{where}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{source} is not a run's configuration: it holds no keys")
    try:
        return build(RunConfig, tree, Place())
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _plain(value: Any) -> Any:
    """Return nested dataclasses and tuples as what YAML can hold."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if not dataclasses.is_dataclass(value):
        return value
    hints = get_type_hints(type(value))
    tree = {}
    for field in dataclasses.fields(value):
        part = vars(value)[field.name]
        plain = _plain(part)
        choice = dataclasses.is_dataclass(part) and len(members_of(hints[field.name])) > 1
        tree[field.name] = {TYPE: type(part).__name__, **plain} if choice else plain
    return tree
