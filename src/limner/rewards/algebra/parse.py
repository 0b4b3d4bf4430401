"""From text to expression: a small part of Python's own grammar, and nothing is ever evaluated."""

from __future__ import annotations

import ast
import dataclasses
import re

from limner.core.errors import UserError, nearest
from limner.rewards.algebra.functions import FUNCTIONS
from limner.rewards.algebra.tree import Condition, Expression, Leaf, Part, Setting

FILE = re.compile(r"""("[^"]*"|'[^']*')|(?!-)[\w./~-]*\w\.py:[A-Za-z_]\w*""")
"""A text in quotes, or FILE.py:FUNCTION, which is no Python; a path with a space or a first minus stands in quotes."""


def parse(text: str) -> Expression:
    """Return the expression that `text` means: numbers, judges, + - * / **, and `functions`.

    Raises UserError that shows what is not understood.
    """
    files: list[str] = []

    def stand_in(found: re.Match[str]) -> str:
        if found[1]:
            return found[0]
        files.append(found[0])
        return f"__file{len(files) - 1}"

    plain = FILE.sub(stand_in, text)
    try:
        tree = ast.parse(plain.strip(), mode="eval").body
    except SyntaxError:
        weighted = re.fullmatch(r"(.+):([-+.\de]+)", text.strip())
        hint = f"; a weight is written {weighted[2]} * {weighted[1]}" if weighted else ""
        raise UserError(
            f"reward {text!r}: this is no expression such as 0.7 * scenes + 0.3 * jpeg_size{hint}"
        ) from None
    found = Reader(text, tuple(files)).read(tree)
    if not isinstance(found, Expression):
        raise UserError(f"reward {text!r}: names no judge")
    return found


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads the nodes of one text; `files` are the names that stand-ins stand for."""

    text: str
    files: tuple[str, ...]

    def read(self, node: ast.expr) -> Expression | float:
        """Return what a node means: an expression, or a number."""
        match node:
            case ast.Constant(value=bool()):
                raise self.error(node)
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Constant(value=str() as name):
                return Leaf(name)
            case ast.Name(id=name):
                return Leaf(self.named(name))
            case ast.Attribute(value=of, attr=name):
                judge = self.read(of)
                if not isinstance(judge, Leaf):
                    raise self.error(node)
                return Part(judge, name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.read(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.read(operand)
            case ast.BinOp():
                return self.arithmetic(node)
            case ast.Call(func=ast.Name(id=name)):
                return self.call(self.named(name), node)
        raise self.error(node)

    def arithmetic(self, node: ast.BinOp) -> Expression | float:
        """Return the sum, difference, product, quotient by a number, or power to a number."""
        left, right = self.read(node.left), self.read(node.right)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div() if isinstance(right, float) and right:
                return left / right
            case ast.Pow() if isinstance(right, float):
                return left**right
        raise self.error(node)

    def call(self, name: str, node: ast.Call) -> Expression:
        """Return a function of expressions, or a judge with settings."""
        settings = {keyword.arg or "**": self.setting(keyword.value) for keyword in node.keywords}
        if name not in FUNCTIONS:
            if node.args:
                raise UserError(f"reward {self.text!r}: unknown function {name!r}{nearest(name, FUNCTIONS)}")
            return Leaf(name, tuple(settings.items()))
        kind = FUNCTIONS[name]
        known = [f.name for f in dataclasses.fields(kind) if f.name not in ("arguments", "condition")]
        for key in settings:
            if key not in known:
                raise UserError(f"reward {self.text!r}: {name} has no setting {key!r}{nearest(key, known)}")
        conditions = [self.condition(each) for each in node.args if isinstance(each, ast.Compare)]
        if len(conditions) != kind.conditioned:
            raise UserError(f"reward {self.text!r}: {name}(...) takes {'one' if kind.conditioned else 'no'} condition")
        arguments = tuple(self.read(each) for each in node.args if not isinstance(each, ast.Compare))
        if not all(isinstance(each, Expression) for each in arguments):
            raise UserError(f"reward {self.text!r}: {name}(...) takes expressions; give numbers by name: {known}")
        return kind(arguments, *conditions, **settings)  # type: ignore[arg-type]

    def condition(self, node: ast.Compare) -> Condition:
        """Return the condition `expression >= number`."""
        left, right = self.read(node.left), self.read(node.comparators[0])
        one = len(node.ops) == 1 and isinstance(node.ops[0], ast.GtE)
        if not one or not isinstance(left, Expression) or not isinstance(right, float):
            raise UserError(f"reward {self.text!r}: a condition is EXPRESSION >= NUMBER, got {ast.unparse(node)}")
        return Condition(left, right)

    def setting(self, node: ast.expr) -> Setting:
        """Return a number, text, True or False."""
        try:
            value = ast.literal_eval(node)
        except ValueError:
            raise self.error(node) from None
        if not isinstance(value, bool | int | float | str):
            raise self.error(node)
        return value

    def named(self, name: str) -> str:
        return self.files[int(name.removeprefix("__file"))] if name.startswith("__file") else name

    def error(self, node: ast.expr) -> UserError:
        shown = re.sub(r"__file(\d+)", lambda found: self.files[int(found[1])], ast.unparse(node))
        return UserError(f"reward {self.text!r}: cannot read {shown!r}: write numbers, judges, + - * / **, functions")
