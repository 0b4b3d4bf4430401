"""Every name that code uses is defined.

Linter and type checker are told not to look, since shapes in annotations are strings of names that they take for code.
"""

from __future__ import annotations

import builtins
import symtable
from collections.abc import Iterator

from architecture.source import agree, package, suite

GIVEN = {*dir(builtins), "__file__", "__path__"}


def test_names_are_defined() -> None:
    agree(
        "undefined name",
        (
            (f"{source.name}:{name}", "is used, and defined nowhere")
            for source in (*package(), *suite())
            for name in undefined(source.path.read_text(encoding="utf-8"))
        ),
    )


def test_undefined_names_are_seen() -> None:
    code = (
        "from __future__ import annotations\nimport a\nb = a\n"
        "def f(x: Shape['batch 3']) -> Later:\n    y = [z for z in x]\n    return y, b, c, len\n"
        "class D:\n    e = 1\n    def g(self):\n        return d\n"
    )
    assert [*undefined(code)] == ["c", "d"]


def undefined(code: str) -> Iterator[str]:
    """Yield the global names that a module's functions use and that neither it nor Python defines."""
    top = symtable.symtable(code, "code", "exec")
    known = GIVEN | {each.get_name() for each in top.get_symbols() if each.is_assigned() or each.is_imported()}
    known |= {each.get_name() for table in _inside(top) for each in table.get_symbols() if each.is_declared_global()}
    for table in _inside(top):
        for each in table.get_symbols():
            if each.is_referenced() and each.is_global() and not each.is_local() and each.get_name() not in known:
                yield each.get_name()


def _inside(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _inside(child)
