"""Import a user's own file: once, and again when it has changed; its own folder is importable, and comes first.

What it changes of torch for the whole process, as `torch.set_grad_enabled(False)` does, is put back.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from limner.core.errors import UserError, message
from limner.core.paths import path_of

_PREFIX = "limner_file_"
_FOLDERS: set[Path] = set()
"""Folders of the files that were imported so far."""


def import_file(file: Path, what: str) -> Mapping[str, Any]:
    """Return what a file defines, by name; what is named in one file shares its weights and state.

    Raises UserError, one line that begins with `what`: no such file, or one that does not import.
    """
    path = path_of(file, what).resolve()
    if path.suffix != ".py":
        raise UserError(f"{what}: {file} is not a Python file (its name must end in .py)")
    if not path.is_file():
        raise UserError(f"{what}: no such file {path}")
    return vars(_module(path, what))


def is_of_file(module: str) -> bool:
    """Tell whether a module's name is one that `import_file` gives."""
    return module.startswith(_PREFIX)


def with_imports(path: Path) -> list[Path]:
    """Return a Python file, and those of its folder that it imports, or that these import; nothing is run."""
    found, waiting = set[Path](), [path]
    while waiting:
        file = waiting.pop()
        if file in found or not file.is_file():
            continue
        found.add(file)
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, RecursionError):  # it imports nothing, and whoever imports it is told why
            tree = ast.Module([], [])
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                waiting += [place for name in node.names for place in _places(path.parent, name.name)]
            elif isinstance(node, ast.ImportFrom):
                home = [file, *file.parents][: node.level + 1][-1] if node.level else path.parent
                waiting += [place for name in node.names for place in _places(home, f"{node.module or ''}.{name.name}")]
    return sorted(found)


def _places(home: Path, dotted: str) -> Iterator[Path]:
    """Yield where a module may lie that is imported from a folder, and the packages that it is in."""
    for name in dotted.strip(".").split("."):
        home = home / name
        yield home.with_name(f"{name}.py")
        yield home / "__init__.py"


def _module(path: Path, what: str) -> ModuleType:
    """Return the module of a file, under a name made of its path and content."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"{what}: cannot read {path}: {error.strerror}") from error
    digest = hashlib.blake2b(str(path).encode() + b"\0" + source, digest_size=8).hexdigest()
    name = f"{_PREFIX}{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    _put_first(path.parent)
    sys.modules[name] = module
    from limner.core.ambient import torch_as_it_was  # torch is loaded where code is run, and no sooner

    try:
        with torch_as_it_was(), blamed(path, f"{what}: {path.name} does not import"):
            exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except UserError:
        del sys.modules[name]
        raise
    return module


def _put_first(folder: Path) -> None:
    """Let imports find what lies in `folder`, though another file's folder has a module of the same name."""
    _FOLDERS.add(folder)
    sys.path[:] = [str(folder), *(place for place in sys.path if place != str(folder))]
    beside = {place.stem for place in folder.iterdir() if place.suffix == ".py" or place.is_dir()}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in beside or not isinstance(module, ModuleType):
            continue
        place = Path(vars(module).get("__file__") or "")
        depth = name.count(".") + (place.name == "__init__.py")
        if any(home != folder and home in _FOLDERS for home in place.parents[depth : depth + 1]):
            del sys.modules[name]


@contextmanager
def blamed(path: Path, what: str) -> Iterator[None]:
    """Turn whatever the code of a user's file raises, an exit too, into a UserError: what, and where in the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UserError(f"{what}: {_where(error, path)}") from error


def _where(error: BaseException, path: Path) -> str:
    """Return kind, line in the user's file and message of an error, on one line."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} at line {error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    place = f" at line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}{place}: {message(error)}"
