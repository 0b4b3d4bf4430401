"""From text to expression: a small part of Python's own grammar, and nothing is ever evaluated."""

from __future__ import annotations

import ast
import re
import sys
import warnings

from limner.core.errors import UserError
from limner.rewards.algebra.reader import Reader
from limner.rewards.algebra.tree import Expression

FILE = re.compile(r"""("[^"]*"|'[^']*')|(?<![\w./~])(?!-)[\w./~-]*\w\.py:[A-Za-z_]\w*""")
"""A text in quotes, or FILE.py:FUNCTION, which is no Python; a path with a space or a first minus stands in quotes."""
MAX_TEXT, MAX_DEPTH = 5000, 100
"""Characters of an expression, and its parts within parts; each term of a chain holds those before it."""
MAX_SHOWN = 300
"""Characters of it that an error repeats."""


def parse(text: str) -> Expression:
    """Return the expression that `text` means: numbers, judges, + - * / **, and `functions`.

    Raises UserError that shows what is not understood.
    """
    files: dict[str, str] = {}

    def stand_in(found: re.Match[str]) -> str:
        if found[1]:
            return found[0]
        name = f"__file{len(files)}"
        files[name] = found[0]
        return name

    shown = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
    if len(text) > MAX_TEXT:
        raise UserError(f"reward {shown!r}: an expression has {MAX_TEXT} characters at most, got {len(text)}")
    tree = _tree(FILE.sub(stand_in, text).strip(), shown)
    found = Reader(shown, files).read(tree)
    if not isinstance(found, Expression):
        raise UserError(f"reward {shown!r}: names no judge")
    return found


def _tree(plain: str, shown: str) -> ast.expr:
    """Return the syntax of an expression, not so deep that whatever follows it downwards could run out of stack."""
    try:
        with warnings.catch_warnings(action="ignore"):  # what Python thinks of odd numbers is no line of ours
            tree = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError):
        weighted = re.fullmatch(r"(.+):([-+.\de]+)", shown.strip())
        hint = f"; a weight is written {weighted[2]} * {weighted[1]}" if weighted else ""
        raise UserError(
            f"reward {shown!r}: this is no expression such as 0.7 * scenes + 0.3 * jpeg_size{hint}"
        ) from None
    except (RecursionError, MemoryError):  # as Python's own parser says it
        raise _too_deep(shown) from None
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        numbers = [
            each.value for each in level if isinstance(each, ast.Constant) and isinstance(each.value, int | float)
        ]
        if not all(abs(number) <= sys.float_info.max for number in numbers):
            raise UserError(f"reward {shown!r}: numbers must be finite, at most {sys.float_info.max:.2g}")
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise _too_deep(shown)
    return tree


def _too_deep(shown: str) -> UserError:
    return UserError(f"reward {shown!r}: nested too deep, or too long a chain: {MAX_DEPTH} parts at most")
