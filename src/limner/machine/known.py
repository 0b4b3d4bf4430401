"""What was measured already: passes that several ways of a run have in common are carried out once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
_KNOWN: ContextVar[dict[tuple[str, ...], Any] | None] = ContextVar("known", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Have `once` measure each thing once inside, and in what calls this inside; afterwards all is forgotten."""
    if _KNOWN.get() is not None:
        yield
        return
    token = _KNOWN.set({})
    try:
        yield
    finally:
        _KNOWN.reset(token)


def once(key: tuple[object, ...], measure: Callable[[], T]) -> T:
    """Return what `measure` returns, or returned before for an equal `key`, which says all that it depends on."""
    known = _KNOWN.get()
    if known is None:
        return measure()
    name = tuple(map(repr, key))
    if name not in known:
        known[name] = measure()
    found: T = known[name]
    return found
