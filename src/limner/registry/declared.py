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
    """A field: its annotation, and the text below it or, without one, the sentences of its class that name it."""

    annotation: ast.expr
    meaning: str


def stated(file: Path, name: str) -> dict[str, Stated]:
    """Return the fields of the class `name` in a file, in their order."""
    found = _classes(file)[name]
    sentences = re.split(r"(?<=[.])\s+", " ".join((ast.get_docstring(found) or "").split()))
    fields = {}
    for node, after in zip(found.body, [*found.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        field = node.target.id
        below = _text(after) or " ".join(each for each in sentences if f"`{field}`" in each)
        if "ClassVar" not in ast.unparse(node.annotation):
            fields[field] = Stated(node.annotation, below)
    return fields


def completions(home: str = CONFIG, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield every key of a configuration, whatever classes are chosen in it, with the values that can be listed."""
    module, _, name = home.partition(":")
    for field, each in stated(_file(module), name).items():
        key = f"{path}{field}"
        named = _named(each.annotation)
        if named is not None:
            registry, kind = named
            yield (f"{path}{kind}" if kind else key), list(REGISTRIES[registry])
            for below in REGISTRIES[registry].values():
                yield from completions(below, f"{key}.")
        elif (nested := _home_of(module, each.annotation)) is not None:
            yield from completions(nested, f"{key}.")
        else:
            yield key, _choices(module, each.annotation)


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


def _home_of(module: str, annotation: ast.expr) -> str | None:
    """Return where the class that an annotation names is, if it is one of ours and has fields of its own."""
    if not isinstance(annotation, ast.Name):
        return None
    classes = _classes(_file(module))
    if annotation.id in classes:
        return f"{module}:{annotation.id}" if classes[annotation.id].decorator_list else None
    elsewhere = _imported(module, annotation.id)
    return _home_of(elsewhere, annotation) if elsewhere else None


def _choices(module: str, annotation: ast.expr) -> list[str]:
    """Return the values that can be listed: truth values, and those of a Literal or a name for one."""
    if isinstance(annotation, ast.Name):
        if annotation.id == "bool":
            return ["true", "false"]
        for node in _tree(_file(module)).body:
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == annotation.id and node.value is not None:
                return _choices(module, node.value)
        elsewhere = _imported(module, annotation.id)
        return _choices(elsewhere, annotation) if elsewhere else []
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return [str(ast.literal_eval(part)) for part in parts]
    return []


def _imported(module: str, name: str) -> str | None:
    """Return the module of ours that a module has a name from."""
    for node in _tree(_file(module)).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("limner."):
            if any(each.name == name and each.asname is None for each in node.names):
                return node.module
    return None
