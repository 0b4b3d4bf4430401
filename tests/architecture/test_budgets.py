"""The budgets of docs/design.md, section 5. Exceptions stand in exceptions.py, each with its reason."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from architecture.source import Function, Source, agree, package, suite

LINES = {"algorithms": 150, "rewards": 150, "models": 300}
LOOP, ANY_FILE, FUNCTION, BODY = 300, 400, 60, 8


def test_files_are_short() -> None:
    def budget(source: Source) -> int:
        if source.name.endswith("training/loop.py"):
            return LOOP
        return LINES.get(source.room, ANY_FILE) if source in package() else ANY_FILE

    lengths = [(source, len(source.text.splitlines())) for source in package() + suite()]
    agree("file length", ((s.name, f"{n} lines, at most {budget(s)}") for s, n in lengths if n > budget(s)))


def test_functions_are_short() -> None:
    found = (
        (place, f"{length(node)} lines, at most {FUNCTION}")
        for source in package() + suite()
        for place, node in source.functions()
        if length(node) > FUNCTION
    )
    agree("function length", found)


def test_keywords_are_named() -> None:
    found = (
        (place, f"catches **{node.args.kwarg.arg}")
        for source in package()
        for place, node in source.functions()
        if node.args.kwarg and source.room not in ("models", "cli")
    )
    agree("keyword catch-all", found)


def test_attributes_are_not_guessed() -> None:
    def guesses(call: ast.Call) -> bool:
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        return name == "hasattr" or (name == "getattr" and len(call.args) == 3)

    found = (
        (source.name, f"line {node.lineno}: hasattr, or getattr with a default")
        for source in package()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and guesses(node)
    )
    agree("attribute guess", found)


def test_exceptions_are_not_swallowed() -> None:
    found = (
        (source.name, f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}")
        for source in package()
        for node in ast.walk(source.tree)
        if swallows(node)
    )
    agree("swallowed exception", found)


def test_no_body_is_copied() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for source in package():
        for place, node in source.functions():
            if len(body := without_docstring(node)) and lines(body) >= BODY:
                places[ast.dump(ast.Module(body, []))].append(place)
    agree("identical body", ((same[0], f"is also {', '.join(same[1:])}") for same in places.values() if len(same) > 1))


def test_lower_floors_are_annotated() -> None:
    def missing(node: Function) -> Iterator[str]:
        a = node.args
        named = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
        yield from (arg.arg for arg in named if arg.annotation is None and arg.arg not in ("self", "cls"))
        if node.returns is None:
            yield "what it returns"

    found = (
        (place, f"no type for {', '.join(missing(node))}")
        for source in package()
        if source.floor <= 3
        for place, node in source.functions()
        if list(missing(node))
    )
    agree("annotation", found)


def test_lower_floors_are_documented() -> None:
    found = (
        (f"{source.name}:{node.name}", "no docstring")
        for source in package()
        if source.floor <= 3
        for node in source.tree.body
        if isinstance(node, Function | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    )
    agree("docstring", found)


def test_the_rules_see_what_they_forbid() -> None:
    seen = ["except: x()", "except Exception: x()", "except OSError: pass", "except (Exception, OSError):\n  continue"]
    fine = ["except OSError: x()", "except Exception as error:\n  raise ValueError from error"]
    for handler in seen + fine:
        node = next(n for n in ast.walk(ast.parse(f"for i in j:\n try: y()\n {handler}")) if isinstance(n, HANDLER))
        assert swallows(node) == (handler in seen), handler
    assert swallows(ast.parse("contextlib.suppress(OSError)", mode="eval").body)
    copy = ast.parse("def f(x):\n  'Doc.'\n  y = x\n  return y").body[0]
    assert isinstance(copy, Function) and length(copy) == 4 and lines(without_docstring(copy)) == 2


HANDLER = ast.ExceptHandler


def swallows(node: ast.AST) -> bool:
    """Whether the node drops an error: an idle handler, one for any error that never raises, or `suppress`."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).split(".")[-1] == "suppress"
    if not isinstance(node, HANDLER):
        return False
    idle = all(isinstance(part, ast.Pass | ast.Continue | ast.Expr) and not _calls(part) for part in node.body)
    caught = {"BaseException"} if node.type is None else {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
    raises = any(isinstance(part, ast.Raise) for child in node.body for part in ast.walk(child))
    return idle or (bool(caught & {"Exception", "BaseException"}) and not raises)


def _calls(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def without_docstring(node: Function) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


def lines(body: list[ast.stmt]) -> int:
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
