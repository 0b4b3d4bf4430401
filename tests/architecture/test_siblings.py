"""An algorithm's file says what is its own: little of it stands in another one too."""

from __future__ import annotations

import ast

from architecture.source import package

SHARE = 1 / 3
"""At most so many of the statements of `algorithms/` occur in a sibling; half of them did before `learning/` was."""


def test_algorithms_repeat_little() -> None:
    files = {source.name: statements(source.tree) for source in package() if source.room == "algorithms"}
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


BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def statements(tree: ast.Module) -> list[str]:
    """Return the statements of a file as text, those that hold others by their head; no imports, no docstrings."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
    return [head(node) for node in nodes if not isinstance(node, ast.Import | ast.ImportFrom) and not said(node)]


def head(node: ast.stmt) -> str:
    fields = {name: [] if name in BLOCKS else value for name, value in ast.iter_fields(node)}
    return ast.unparse(ast.copy_location(type(node)(**fields), node))


def said(node: ast.stmt) -> bool:
    """Whether a statement is a text that stands by itself."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
