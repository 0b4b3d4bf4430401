"""The repository's source as syntax trees, and the comparison of what a rule finds with its listed exceptions."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from architecture.exceptions import EXCEPTIONS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "limner"
FLOORS = {
    "diffusion": 0,
    "objectives": 0,
    "core": 1,
    **dict.fromkeys(["judging", "learning"], 2),
    **dict.fromkeys(["algorithms", "policies", "models", "rewards", "data", "engine", "report", "worlds"], 3),
    "rollout": 4,
    **dict.fromkeys(["training", "evaluate", "steer", "serve", "feedback", "environments"], 5),
}
"""The floor of each room, docs/design.md, section 2; what is not named stands on floor 6."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A Python file."""

    path: Path

    @property
    def name(self) -> str:
        """Path below the repository's root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def room(self) -> str:
        """The room the file is in, or its own name if it stands in the package itself."""
        return self.path.relative_to(PACKAGE).with_suffix("").parts[0]

    @property
    def floor(self) -> int:
        return FLOORS.get(self.room, 6)

    @functools.cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Yield every function, nested ones and methods too, with its place."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield f"{self.name}:{node.name}", node


@functools.cache
def package() -> tuple[Source, ...]:
    """Return the files of the package."""
    return _files(PACKAGE)


@functools.cache
def suite() -> tuple[Source, ...]:
    """Return the files of the tests."""
    return _files(ROOT / "tests")


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Return the files git tracks; the test is skipped where there is no git."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return tuple(path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file())


def agree(rule: str, found: Iterable[tuple[str, str]]) -> None:
    """Fail unless the places that break `rule`, each with what was found there, are exactly its listed exceptions."""
    broken = dict(found)
    allowed = EXCEPTIONS[rule]
    new = [f"{place}: {what}" for place, what in sorted(broken.items()) if place not in allowed]
    stale = [f"{place}: the exception is no longer needed" for place in sorted(allowed) if place not in broken]
    assert not new + stale, f"{rule}\n  " + "\n  ".join(new + stale)


def _files(folder: Path) -> tuple[Source, ...]:
    return tuple(Source(path) for path in sorted(folder.rglob("*.py")))
