"""What each node of Python's syntax means in an expression."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections.abc import Callable, Mapping

from limner.core.errors import UserError, nearest
from limner.rewards.algebra.around import AROUND, around
from limner.rewards.algebra.named import FUNCTIONS
from limner.rewards.algebra.tree import Condition, Expression, Leaf, Part, Setting

QUOTED = re.compile(r"""[^"'\\\x00-\x1f]*\.py:[A-Za-z_]\w*""")
"""What may stand in quotes: FILE.py:FUNCTION, whatever the path, but for what would end the text."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads the nodes of one text; `files` are the names that stand-ins stand for."""

    text: str
    files: Mapping[str, str]

    def read(self, node: ast.expr) -> Expression | float:
        """Return what a node means: an expression, or a number."""
        match node:
            case ast.Constant(value=bool()):
                raise self.error(node)
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Constant(value=str() as name) if name.isidentifier() or QUOTED.fullmatch(name):
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
                return self.computed(node, lambda: left + right)
            case ast.Sub():
                return self.computed(node, lambda: left - right)
            case ast.Mult():
                return self.computed(node, lambda: left * right)
            case ast.Div() if isinstance(right, float) and right:
                return self.computed(node, lambda: left / right)
            case ast.Pow() if isinstance(right, float):
                return self.computed(node, lambda: left**right)
        raise self.error(node)

    def computed(self, node: ast.expr, compute: Callable[[], Expression | float]) -> Expression | float:
        """Return what is computed. Raises UserError for a number that is not finite, not real, or not to be had."""
        try:
            found = compute()
        except ArithmeticError:
            found = math.nan
        if isinstance(found, Expression) or (isinstance(found, float) and math.isfinite(found)):
            return found
        raise UserError(f"reward {self.text!r}: {self.shown(node)!r:.100} is no finite number")

    def call(self, name: str, node: ast.Call) -> Expression:
        """Return a function of expressions, or a judge with settings."""
        settings = {keyword.arg or "**": self.setting(keyword.value) for keyword in node.keywords}
        if len(settings) < len(node.keywords):
            raise UserError(f"reward {self.text!r}: {name} is given a setting twice")
        if name in AROUND:
            return around(name, [self.read(each) for each in node.args], settings, self.text)
        if name not in FUNCTIONS:
            if node.args:
                raise UserError(
                    f"reward {self.text!r}: unknown function {name!r}{nearest(name, {*FUNCTIONS, *AROUND})}"
                )
            return Leaf(name, tuple(settings.items()))
        kind = FUNCTIONS[name]
        known = {f.name: f.default for f in dataclasses.fields(kind) if f.name not in ("arguments", "condition")}
        for key, value in settings.items():
            if key not in known:
                raise UserError(f"reward {self.text!r}: {name} has no setting {key!r}{nearest(key, known)}")
            wanted: tuple[Any, str] = (int | float, "a number")
            if isinstance(known[key], bool | str):
                wanted = (bool, "True or False") if isinstance(known[key], bool) else (str, "text")
            if isinstance(value, bool) != (wanted[0] is bool) or not isinstance(value, wanted[0]):
                raise UserError(f"reward {self.text!r}: {name}: {key} is {wanted[1]}, got {value!r}")
        conditions = [self.condition(each) for each in node.args if isinstance(each, ast.Compare)]
        if len(conditions) != kind.conditioned:
            raise UserError(f"reward {self.text!r}: {name}(...) takes {'one' if kind.conditioned else 'no'} condition")
        arguments = tuple(self.read(each) for each in node.args if not isinstance(each, ast.Compare))
        if not all(isinstance(each, Expression) for each in arguments):
            named = f"give numbers by name: {', '.join(known)}" if known else "numbers have no place in it"
            raise UserError(f"reward {self.text!r}: {name}(...) takes expressions; {named}")
        return kind(arguments, *conditions, **settings)  # type: ignore[arg-type]

    def condition(self, node: ast.Compare) -> Condition:
        """Return the condition `expression >= number`."""
        left, right = self.read(node.left), self.read(node.comparators[0])
        one = len(node.ops) == 1 and isinstance(node.ops[0], ast.GtE)
        if not one or not isinstance(left, Expression) or not isinstance(right, float):
            raise UserError(f"reward {self.text!r}: a condition is EXPRESSION >= NUMBER, got {self.shown(node)}")
        return Condition(left, right)

    def setting(self, node: ast.expr) -> Setting:
        """Return a number, text, True or False."""
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError):
            raise self.error(node) from None
        if not isinstance(value, bool | int | float | str):
            raise self.error(node)
        return value

    def named(self, name: str) -> str:
        """Return a name, or the file for which it stands in."""
        return self.files.get(name, name)

    def shown(self, node: ast.expr) -> str:
        """Return a node as it was written."""
        return re.sub(r"\w+", lambda found: self.named(found[0]), ast.unparse(node))

    def error(self, node: ast.expr) -> UserError:
        return UserError(
            f"reward {self.text!r}: cannot read {self.shown(node)!r}: write numbers, judges, + - * / **, functions"
        )
