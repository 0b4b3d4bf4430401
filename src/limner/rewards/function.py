"""A user's own reward: a function in a file, named `my_file.py:my_reward`."""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from limner.core.errors import UserError, nearest
from limner.core.protocols import Reward


def load_reward(spec: str) -> Reward:
    """Return the function that `FILE.py:FUNCTION` names; the file is imported once, its own folder is importable.

    Raises UserError, one line each: no such form, file or function; a file that does not import; something that cannot
    be called with (media, prompts).
    """
    file, separator, name = spec.rpartition(":")
    if not separator or not file or not name:
        raise UserError(f"reward {spec!r}: expected FILE.py:FUNCTION, for example my_file.py:my_reward")
    path = Path(file).expanduser().resolve()
    if path.suffix != ".py":
        raise UserError(f"reward {spec!r}: {file} is not a Python file (its name must end in .py)")
    if not path.is_file():
        raise UserError(f"reward {spec!r}: no such file {path}")
    found = vars(_load(path, spec))
    if name not in found:
        known = [key for key, value in found.items() if inspect.isfunction(value) and not key.startswith("_")]
        hint = nearest(name, known) if known else "; the file defines no function"
        raise UserError(f"reward {spec!r}: no function {name!r} in {path.name}{hint}")
    _require_callable(found[name], name, spec)
    return found[name]


def _load(path: Path, spec: str) -> ModuleType:
    """Import a file under a name made of its path and content, so that two rewards of one file share its weights."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"reward {spec!r}: cannot read {path}: {error.strerror}") from error
    digest = hashlib.blake2b(str(path).encode() + b"\0" + source, digest_size=8).hexdigest()
    module_name = f"limner_reward_{path.stem}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    module = ModuleType(module_name)
    module.__file__ = str(path)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    sys.modules[module_name] = module
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise UserError(f"reward {spec!r}: {path.name} does not import: {_where(error, path)}") from error
    return module


def _where(error: BaseException, path: Path) -> str:
    """Return kind, line in the user's file and message of an error, on one line."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} at line {error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    place = f" at line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}{place}: {' '.join(str(error).split())}"


def _require_callable(reward: Any, name: str, spec: str) -> None:
    if inspect.isclass(reward):
        raise UserError(f"reward {spec!r}: {name} is a class; write `my_reward = {name}(...)` there and name my_reward")
    if not callable(reward):
        raise UserError(f"reward {spec!r}: {name} is no function (media, prompts) -> scores: {type(reward).__name__}")
    try:
        signature = inspect.signature(reward)
    except ValueError:  # compiled callables carry no signature; the first call will tell
        return
    try:
        signature.bind(object(), object())
    except TypeError as error:
        raise UserError(f"reward {spec!r}: {name}{signature} does not accept (media, prompts): {error}") from error
