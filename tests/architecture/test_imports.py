"""Imports go down: docs/design.md, section 2. The floors themselves are import-linter's contracts in pyproject.toml."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator

import grimp
import pytest

from architecture.source import PACKAGE, ROOT, Source, agree, package
from limner.registry.names import REWARDS

PROVIDED = {"yaml": "pyyaml", "PIL": "pillow", "cv2": "opencv-python-headless"}
"""Module -> distribution, where the names differ."""


def test_contracts_hold() -> None:
    """In a process of its own: import-linter turns the loggers of others off."""
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_cycle() -> None:
    graph = grimp.build_graph("limner", cache_dir=None)
    graphlib.TopologicalSorter({m: graph.find_modules_directly_imported_by(m) for m in graph.modules}).prepare()


def test_a_judge_names_no_other_judge() -> None:
    """Only what is within a judge's module or package may import it; what judges share stands beside them."""
    judges = {path.partition(":")[0] for path in REWARDS.values() if path.startswith("limner.rewards.")}
    named = {
        (source.name, name)
        for source in package()
        if source.room == "rewards"
        for name, _ in imported(source)
        for judge in judges
        if within(judge, name) and not within(judge, module(source))
    }
    assert len(judges) > 20 and not named


def test_upper_floors_name_no_medium() -> None:
    """What a generator shows is its own affair: above floor 3 media are `Media`; the public names are all there is."""
    named = {
        (source.name, alias.name)
        for source in package()
        if source.floor > 3 and source.room != "__init__"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "limner.core.media"
        for alias in node.names
        if alias.name == "Images"
    }
    assert not named


def test_floor_0_is_pure() -> None:
    allowed = {"torch", "jaxtyping", *sys.stdlib_module_names}
    found = (
        (source.name, f"line {line}: imports {name}")
        for source in package()
        if source.floor == 0
        for name, line in imported(source)
        if name.split(".")[0] not in allowed and name.split(".")[:2] != ["limner", source.room]
    )
    agree("import", found)


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(name for extra in extras if extra != "dev" for name in extras[extra])]
    declared = {re.split(r"[^\w-]", line)[0].lower() for line in needed}
    roots = {(name.split(".")[0], source.name) for source in package() for name, _ in imported(source)}
    others = {(root, where) for root, where in roots if root not in {"limner", *sys.stdlib_module_names}}
    assert not {(root, where) for root, where in others if PROVIDED.get(root, root) not in declared}


def test_nothing_below_imports_the_public_api() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir()}
    for source in package():
        for node in ast.walk(source.tree):
            if source.floor < 6 and isinstance(node, ast.ImportFrom) and node.module == "limner":
                assert {alias.name for alias in node.names} <= rooms, f"{source.name}:{node.lineno}"


@pytest.mark.parametrize("module", ["limner", "limner.cli", "limner.recipes.override"])
def test_light_modules_import_no_torch(module: str) -> None:
    assert not loaded(f"import {module}") & {"torch", "numpy", "diffusers", "transformers"}


@pytest.mark.parametrize(
    "statement",
    [
        "import limner.build",
        "from limner.cli import main; main(['list'])",
        "import limner as l; l.override(l.recipe('scenes'), {'model.path': 'scenes_sd', 'model.settings.width': '64'})",
    ],
)
def test_no_big_library_is_imported_before_its_time(statement: str) -> None:
    assert not loaded(statement) & {"diffusers", "transformers"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], []])
def test_help_is_instant(arguments: list[str]) -> None:
    """Under a second of work; the best of three, in processor time, so that a busy machine does not decide."""
    best = min(seconds([sys.executable, "-m", "limner", *arguments]) for _ in range(3))
    assert best < 1.0


def imported(source: Source) -> Iterator[tuple[str, int]]:
    """Yield every module a file imports, wherever in the file, with the line."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name}:{node.lineno}: relative import"
            yield str(node.module), node.lineno


def module(source: Source) -> str:
    """Return the name under which a file is imported; of an `__init__`, that of its package."""
    return ".".join(source.path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def within(outer: str, name: str) -> bool:
    """Whether a module is `outer` or below it."""
    return f"{name}.".startswith(f"{outer}.")


def loaded(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `statement`."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def seconds(command: list[str]) -> float:
    """Return the processor time of a command that prints a usage and succeeds."""
    before, start = os.times(), time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = os.times()
    assert done.stdout.startswith("usage: limner") and not done.stderr
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return min(spent, time.monotonic() - start)
