"""Plain data from text: what JSON and YAML say of numbers, texts, truth values, lists, and mappings.

PyYAML only divides the text into nodes. What they mean is read here, because its own constructors raise a dozen kinds
of errors, keep the last of two equal keys, make dates, and build whatever aliases multiply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import yaml

from limner.core.errors import UserError, shown

MAX_BYTES, MAX_VALUES, MAX_DEPTH = 50_000, 10_000, 50
"""Of a file; of it once aliases are written out; of values within values."""
MAX_DIGITS = 40
"""Characters of a whole number; any that fits 64 bits has fewer."""
TAG = "tag:yaml.org,2002:"
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
INFINITE = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}


def whole(text: str, base: int = 10) -> int:
    """Return the whole number that a text is, in ASCII digits; base 0 reads 0x10 too. Else raises ValueError."""
    if not text.isascii() or len(text) > MAX_DIGITS:
        raise ValueError(f"no whole number: {shown(text)}")
    return int(text, base)


def real(text: str) -> float:
    """Return the number that a text is, in ASCII digits. Raises ValueError if it is none."""
    if not text.isascii():
        raise ValueError(f"no number: {shown(text)}")
    return float(text)


def finite(text: str) -> float:
    """Return the number that a text of JSON is. Raises ValueError for one that is too large to be a float."""
    if math.isinf(found := float(text)):
        raise ValueError(f"{shown(text)} is too large a number")
    return found


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON. Raises ValueError for a key that stands there twice: nobody knows which is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {shown(next(name for name in names if names.count(name) > 1))} stands there twice")
    return found


def plain(text: str, source: str) -> Any:
    """Return what a YAML (or JSON) text says. Raises UserError, one line that begins with `source` and says where."""
    try:
        _require_shallow(text, source)
        node = yaml.compose(text, yaml.SafeLoader)
        return None if node is None else _Reader(source).value(node, 0)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise UserError(f"{source} is not YAML{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{source} is not YAML: {str(error).splitlines()[0]}") from None
    except (ValueError, OverflowError) as error:  # PyYAML on an escape such as "\UFFFFFFFF"
        raise UserError(f"{source} is not YAML: {error}") from None


def _require_shallow(text: str, source: str) -> None:
    """Refuse a text that is nested too deep, before PyYAML goes down into it."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UserError(f"{source} is nested too deep: at most {MAX_DEPTH} values within values")


@dataclass
class _Reader:
    """Reads the nodes of one text, and counts them: an alias counts for all that it stands for."""

    source: str
    values: int = 0

    def value(self, node: yaml.Node, depth: int) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.error(node, f"more than {MAX_VALUES} values, with aliases written out")
        if depth > MAX_DEPTH:
            raise self.error(node, f"nested too deep, or an alias within itself: at most {MAX_DEPTH} values")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
            return [self.value(part, depth + 1) for part in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG}map":
            return self.mapping(node, depth)
        raise self.tag(node)

    def mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        """Return a mapping; what `<<` merges stands behind its own keys."""
        tree: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(key, "a key must be a text")
            read = self.value(value, depth + 1)
            if key.tag == f"{TAG}merge":
                for each in read if isinstance(read, list) else [read]:
                    if not isinstance(each, dict):
                        raise self.error(key, "<< takes mappings")
                    merged = each | merged
                continue
            if key.value in tree:
                raise self.error(key, f"the key {shown(key.value)} stands there twice")
            tree[key.value] = read
        return merged | tree

    def scalar(self, node: yaml.ScalarNode) -> str | int | float | bool | None:
        text: str = node.value
        kind = node.tag.removeprefix(TAG)
        try:
            if kind == "str":
                return text
            if kind == "null" and text.lower() in ("", "~", "null"):
                return None
            if kind == "bool":
                return WORDS[text.lower()]
            if kind == "int":
                return whole(text, 0)
            if kind == "float":
                return INFINITE[text.lower()] if text.lower() in INFINITE else float(text)
        except (ValueError, KeyError):
            raise self.error(node, f"{shown(text)} is no {kind} that can be read") from None
        if kind == "timestamp":
            raise self.error(node, f"{shown(text)} is a date; put it in quotes to make it a text")
        raise self.tag(node)

    def tag(self, node: yaml.Node) -> UserError:
        return self.error(node, f"the tag {shown(node.tag.replace(TAG, '!!'))} is not known here")

    def error(self, node: yaml.Node, problem: str) -> UserError:
        return UserError(f"{self.source}, line {node.start_mark.line + 1}: {problem}")
