"""How many examples a fuzzing test tries, few in every run of the suite, `LIMNER_FUZZ` times as many when asked; and
what each of them must be."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from hypothesis import settings

from limner.cli import main

Test = TypeVar("Test", bound=Callable[..., None])
TIMES = int(os.environ.get("LIMNER_FUZZ", "1"))


def examples(number: int) -> Callable[[Test], Test]:
    """Mark a test to try `number` examples, the same ones each time; with LIMNER_FUZZ others, and more of them."""
    return settings(max_examples=number * TIMES, derandomize=TIMES == 1, deadline=None)


class Ended(BaseException):
    """Raised where the words of a command were read, and its work would begin."""


def end(*given: object, **named: object) -> None:
    """Stand for the work of a command."""
    raise Ended


def carried_out(arguments: list[str]) -> None:
    """Carry out a command; assert that it is done, or reaches its work, or is refused in one line, at once."""
    said, complaint, start = io.StringIO(), io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
        try:
            code: object = main(arguments)
        except Ended:
            return
        except SystemExit as error:  # argparse after --help
            code = error.code
    assert time.process_time() - start < 2, arguments
    if code == 0:
        return
    line = complaint.getvalue()
    assert code == 2 and not said.getvalue(), (arguments, code)
    assert line.startswith("limner: ") and line.endswith("\n") and line[:-1].isprintable(), (arguments, line)
    assert 9 < len(line) < 1100, (arguments, line)


@contextlib.contextmanager
def unwritten(folder: Path) -> Iterator[None]:
    """Assert that nothing in a folder was made, changed or removed."""
    before = contents(folder)
    yield
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, int]:
    """Return when each file and folder below a folder was last changed."""
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in path.parts}
