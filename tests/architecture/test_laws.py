"""Law 4 of docs/design.md: what is used itself is never subclassed, and what is configured is a frozen dataclass."""

from __future__ import annotations

import ast
import dataclasses

import pytest

from architecture.source import package
from limner.registry.find import find
from limner.registry.names import ALGORITHMS, DYNAMICS, MODELS, SAMPLERS, SOURCES

HEADS = {
    "Expression": "nodes of an expression: parsing, walking and printing go through all of them",
    "Function": "functions of expressions",
    "Against": "those of them that hold the samples against a reference",
    "Asking": "settings of judges that ask the same service",
    "ClipSettings": "settings of kinds whose pipelines draw clips of a text",
    "EditSettings": "settings of the pipelines of Qwen-Image that edit",
}
"""Abstract heads of closed families, which no one makes an instance of."""


def named(base: ast.expr) -> str:
    base = base.value if isinstance(base, ast.Subscript) else base
    return base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""


def test_a_class_is_abstract_or_final() -> None:
    classes = [node for source in package() for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    bases = {node.name: [named(base) for base in node.bases] for node in classes}

    def is_error(name: str) -> bool:
        return name == "Exception" or any(map(is_error, bases.get(name, [])))

    for name, above in bases.items():
        for base in set(above) & bases.keys():
            fine = "Protocol" in bases[base] or is_error(base) or base in HEADS
            assert fine, f"{name} subclasses {base}, which is used itself: wrap it, or make both stand alone"
    assert set(HEADS) <= {base for above in bases.values() for base in above}, "a head that nothing stands below"


@pytest.mark.parametrize("registry", [ALGORITHMS, DYNAMICS, SAMPLERS, SOURCES, MODELS], ids=lambda r: next(iter(r)))
def test_what_is_configured_is_a_frozen_dataclass(registry: dict[str, str]) -> None:
    for name in registry:
        kind = find(registry, "one", name)
        assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen, name  # type: ignore[attr-defined]
