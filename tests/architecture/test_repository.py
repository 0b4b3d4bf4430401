"""What holds everywhere: tight tolerances, no paths of a machine, a newline at the end, a pinned environment."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from architecture.source import PACKAGE, ROOT, agree, suite, tracked

TOLERANCE = 0.05
TOLERANCES = {"rel", "abs", "rtol", "atol"}
POSITIONAL = {"approx": 1, "allclose": 2, "assert_allclose": 2, "isclose": 2}
"""Where the positional tolerances of a comparison begin."""


def test_tolerances_are_tight() -> None:
    found = (
        (source.name, f"line {line}: tolerance {value}")
        for source in suite()
        for line, value in tolerances(source.tree)
        if value > TOLERANCE
    )
    agree("tolerance", found)


def test_tolerances_are_seen() -> None:
    code = "approx(x, 0.1); approx(x, rel=.2); allclose(a, b, 0.3); torch.allclose(a, b, atol=4e-1); f(0.5)"
    assert [value for _, value in tolerances(ast.parse(code))] == [0.1, 0.2, 0.3, 0.4]


def tolerances(tree: ast.AST) -> Iterator[tuple[int, float]]:
    """Yield the line and value of every constant tolerance of a comparison."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            start = POSITIONAL.get(ast.unparse(node.func).split(".")[-1], len(node.args))
            named = [keyword.value for keyword in node.keywords if keyword.arg in TOLERANCES]
            for value in [*node.args[start:], *named]:
                if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
                    yield node.lineno, value.value


def test_no_path_of_a_machine() -> None:
    folders = "|".join(["work", "root", "home", "opt", "farm", "Users"])
    pattern = re.compile(r"(?<![\w.:~*/})-])/(" + folders + r")/\w")
    found = (
        (path.relative_to(ROOT).as_posix(), f"line {number}: {line.strip()}")
        for path in tracked()
        for number, line in enumerate((read(path) or "").splitlines(), 1)
        if pattern.search(line)
    )
    agree("machine path", found)


def test_text_ends_with_a_newline() -> None:
    texts = ((path.relative_to(ROOT).as_posix(), read(path)) for path in tracked())
    agree("final newline", ((name, "no newline at the end") for name, text in texts if text and text[-1] != "\n"))


def test_the_environment_is_pinned() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "name==version, and no local version"
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if re.match("nvidia|cuda|torchvision|triton", line, re.IGNORECASE)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {normal(line.split("==")[0]) for line in lines}
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {normal(re.split(r"[<>=!~ ]", line)[0]) for line in needed} <= pinned


def test_the_wheel_takes_every_file_of_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = [pattern.split("**/*") for pattern in settings["package-data"]["limner"]]
    names = {path.relative_to(PACKAGE).as_posix() for path in tracked() if PACKAGE in path.parents}
    data = {name for name in names if not name.endswith(".py")}
    assert not {name for name in data if not any(name.startswith(p[0]) and name.endswith(p[-1]) for p in patterns)}


@pytest.mark.parametrize("name", ["LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", ".ci/run"])
def test_a_project_file_is_tracked(name: str) -> None:
    assert ROOT / name in tracked()


def test_what_is_run_on_one_processor_is_there() -> None:
    """A file that is renamed is not, by its old name, believed to be left out of the second run."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    (names,) = re.findall(r"^ALIKE := (.*)$", text, re.MULTILINE)
    files = [(ROOT / "tests" / folder, name) for folder, name in (each.split("/") for each in names.split())]
    assert len(files) > 30 and all((folder / f"test_{name}.py").is_file() for folder, name in files)


def normal(name: str) -> str:
    """Return a distribution's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: Path) -> str | None:
    """Return the text of a file, or None if it is not text."""
    data = path.read_bytes()
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None
