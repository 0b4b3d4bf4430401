"""What the source of a settings class says of its fields, read and not imported: shell completion must be instant.

lr: Annotated[float, Range(above=0, below=1)] = 3e-4
\"\"\"The learning rate.\"\"\"
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from limner.registry.names import REGISTRIES

ROOT = Path(__file__).parents[1]
CONFIG = "limner.training.config:RunConfig"


@dataclass(frozen=True)
class Stated:
    """A field: its annotation, and the text below it or, without one, the sentences of its class that name it.

    A field that is stated again means what it did above, unless something else is said. `file` is where it stands.
    """

    annotation: ast.expr
    meaning: str
    file: Path


def stated(file: Path, name: str) -> dict[str, Stated]:
    """Return the fields of the class `name` in a file, in their order, and before them those that it inherits."""
    found = _classes(file)[name]
    sentences = re.split(r"(?<=[.])\s+", " ".join((ast.get_docstring(found) or "").split()))
    fields = _inherited(file, found)
    for node, after in zip(found.body, [*found.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        field = node.target.id
        below = _text(after) or " ".join(each for each in sentences if f"`{field}`" in each)
        if "ClassVar" not in ast.unparse(node.annotation):
            above = fields[field].meaning if field in fields else ""
            fields[field] = Stated(node.annotation, below or above, file)
    return fields


def _inherited(file: Path, kind: ast.ClassDef) -> dict[str, Stated]:
    """Return the fields of the classes that one stands below, those of its own file and of ours."""
    fields: dict[str, Stated] = {}
    for base in reversed(kind.bases):
        if isinstance(base, ast.Name) and (place := _place_of(file, base.id)) is not None:
            fields |= stated(place, base.id)
    return fields


def completions(home: str = CONFIG) -> Iterator[tuple[str, list[str]]]:
    """Yield every key of a configuration, whatever classes are chosen in it, with the values that can be listed."""
    module, _, name = home.partition(":")
    return _completions(_file(module), name, "")


def _completions(file: Path, name: str, path: str) -> Iterator[tuple[str, list[str]]]:
    for field, each in stated(file, name).items():
        key = f"{path}{field}"
        named = _named(each.annotation)
        if named is not None:
            registry, kind = named
            yield (f"{path}{kind}" if kind else key), list(REGISTRIES[registry])
            for below in REGISTRIES[registry].values():
                module, _, one = below.partition(":")
                yield from _completions(_file(module), one, f"{key}.")
        elif isinstance(each.annotation, ast.Name) and (place := _settings_of(each.file, each.annotation.id)):
            yield from _completions(place, each.annotation.id, f"{key}.")
        else:
            yield key, _choices(each.file, each.annotation)


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _classes(file: Path) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in _tree(file).body if isinstance(node, ast.ClassDef)}


def _file(module: str) -> Path:
    place = ROOT.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _text(node: ast.stmt | None) -> str:
    """Return the text that a statement is, "" if it is none."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(inspect.cleandoc(node.value.value).split())
    return ""


def _named(annotation: ast.expr) -> tuple[str, str] | None:
    """Return the registry, and the field beside it that names a class of it, of a mark `Named("models", kind=...)`."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Named":
            kinds = [ast.literal_eval(each.value) for each in node.keywords if each.arg == "kind"]
            return ast.literal_eval(node.args[0]), kinds[0] if kinds else ""
    return None


def _place_of(file: Path, name: str) -> Path | None:
    """Return the file of the class that a name means in a file, if it is of that file or one of ours."""
    if name in _classes(file):
        return file
    elsewhere = _imported(file, name)
    return _place_of(elsewhere, name) if elsewhere is not None else None


def _settings_of(file: Path, name: str) -> Path | None:
    """Return the file of the class that a name means, if it has fields of its own."""
    place = _place_of(file, name)
    return place if place is not None and _classes(place)[name].decorator_list else None


def _choices(file: Path, annotation: ast.expr) -> list[str]:
    """Return values that can be listed: truth values, those of a Literal or a name for one, and "none" with them."""
    if isinstance(annotation, ast.Name):
        if annotation.id == "bool":
            return ["true", "false"]
        for node in _tree(file).body:
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == annotation.id and node.value is not None:
                return _choices(file, node.value)
        elsewhere = _imported(file, annotation.id)
        return _choices(elsewhere, annotation) if elsewhere is not None else []
    if isinstance(annotation, ast.BinOp) and (listed := _choices(file, annotation.left)):
        return [*listed, "none"]
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return [str(ast.literal_eval(part)) for part in parts]
    return []


def _imported(file: Path, name: str) -> Path | None:
    """Return the file of the module of ours that a file has a name from."""
    for node in _tree(file).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("limner."):
            if any(each.name == name and each.asname is None for each in node.names):
                return _file(node.module or "")
    return None
