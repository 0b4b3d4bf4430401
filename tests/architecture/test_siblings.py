"""An algorithm's file says what is its own: little of it stands in another one too."""

from __future__ import annotations

import ast

import pytest

from architecture.source import package

SHARE = 1 / 3
"""At most so many statements, and lines, of `algorithms/` occur in a sibling; half did before `learning/` was."""


@pytest.mark.parametrize("parts", ["statements", "lines"])
def test_algorithms_repeat_little(parts: str) -> None:
    of = {"statements": lambda source: statements(source.tree), "lines": lambda source: lines(source.text, source.tree)}
    files = {source.name: of[parts](source) for source in package() if source.room == "algorithms"}
    repeated = {
        name: [each for each in own if any(each in other for n, other in files.items() if n != name)]
        for name, own in files.items()
    }
    share = sum(map(len, repeated.values())) / sum(map(len, files.values()))
    assert share <= SHARE, f"{share:.1%}:\n" + "\n".join(f"{name}: {each}" for name, each in repeated.items())


def test_statements_are_seen() -> None:
    code = """
        import torch
        @settings
        class A:
            'Doc.'
            x: int = 1
            def f(
                self,
            ) -> int:
                'Doc.'
                if self.x:
                    return 1
                else:
                    return (2 +
                            3)
    """
    found = statements(ast.parse("if True:" + code))
    assert found == [
        "if True:", "@settings\nclass A:", "x: int = 1", "def f(self) -> int:", "if self.x:", "return 1",
        "return 2 + 3",
    ]  # fmt: skip


def test_lines_are_seen() -> None:
    code = """import torch
'Doc.'
x = [  # why
    1,
]

# why
def f() -> None:
    'Doc.'
"""
    assert lines(code, ast.parse(code)) == ["x = [", "1,", "]", "def f() -> None:"]


BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def statements(tree: ast.Module) -> list[str]:
    """Return the statements of a file as text, those that hold others by their head; no imports, no docstrings."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
    return [head(node) for node in nodes if not isinstance(node, ast.Import | ast.ImportFrom) and not said(node)]


def head(node: ast.stmt) -> str:
    fields = {name: [] if name in BLOCKS else value for name, value in ast.iter_fields(node)}
    return ast.unparse(ast.copy_location(type(node)(**fields), node))


def lines(text: str, tree: ast.Module) -> list[str]:
    """Return the lines of code of a file, without indent and comments; no imports, no docstrings, no empty ones."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
    beside = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) or said(node)]
    left_out = {number for node in beside for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    numbered = enumerate((line.partition("#")[0].strip() for line in text.splitlines()), 1)
    return [line for number, line in numbered if line and number not in left_out]


def said(node: ast.stmt) -> bool:
    """Whether a statement is a text that stands by itself."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
