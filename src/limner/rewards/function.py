"""A user's own reward: a function, named `my_file.py:my_reward`."""

from __future__ import annotations

import inspect
from typing import Any

from limner.core.errors import UserError
from limner.core.protocols import Reward


def usable(found: Any, spec: str) -> Reward:
    """Return what a user named as a reward, or raise UserError: it cannot be called with (media, prompts)."""
    name = spec.rpartition(":")[2]
    if inspect.isclass(found):
        raise UserError(f"reward {spec!r}: {name} is a class; write `my_reward = {name}(...)` there and name my_reward")
    if not callable(found):
        raise UserError(f"reward {spec!r}: {name} is no function (media, prompts) -> scores: {type(found).__name__}")
    if any(
        kind(found) for kind in (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    ):
        raise UserError(
            f"reward {spec!r}: {name} is async or yields; write a function that returns one number a sample"
        )
    try:
        signature = inspect.signature(found)
    except ValueError:  # compiled callables carry no signature; the first call will tell
        return found
    try:
        signature.bind(object(), object())
    except TypeError as error:
        raise UserError(f"reward {spec!r}: {name}{signature} does not accept (media, prompts): {error}") from error
    return found
