"""Shapes as annotations state them, checked at every call under tests: the type checker that jaxtyping's hook is given.

It looks at arrays and nothing else: mypy sees to the other types, and a Protocol cannot be looked at from outside.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from jaxtyping import AbstractArray


def checked(function):
    """Return `function`, which raises TypeError if an array that it is given, or returns, is not as annotated."""
    signature = inspect.signature(function)

    @functools.cache
    def arrays() -> dict[str, Any]:
        return {name: hint for name, hint in get_type_hints(function).items() if is_array(hint)}

    @functools.wraps(function)
    def call(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        for name, hint in arrays().items():
            if name in given:
                require(given[name], hint, f"{function.__qualname__}: {name}")
        answer = function(*args, **kwargs)
        if "return" in arrays():
            require(answer, arrays()["return"], f"{function.__qualname__}: what it returns")
        return answer

    return call


def is_array(hint: Any) -> bool:
    """Tell whether a hint is of an array, or of one of several things of which an array is one."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(map(is_array, get_args(hint)))
    return inspect.isclass(hint) and issubclass(hint, AbstractArray)


def require(value: Any, hint: Any, what: str) -> None:
    """Raise TypeError if `value` is not as annotated."""
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    arrays = [choice for choice in choices if is_array(choice)]
    others = tuple(choice for choice in choices if inspect.isclass(choice) and not is_array(choice))
    if isinstance(value, others) or any(isinstance(value, array) for array in arrays):
        return
    shape = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
    raise TypeError(f"{what} should be {' or '.join(str(array) for array in arrays)}, got {shape}")
