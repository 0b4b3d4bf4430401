"""Shapes as annotations state them, checked at every call under tests.

jaxtyping's hook writes `@jaxtyping.jaxtyped(typechecker=...)` above every function and class of a module, and `checked`
stands in for that decorator (conftest.py). jaxtyping's own binds the arguments of every call three times over; this one
looks at arrays and nothing else, so that a function without any costs nothing. mypy sees to the other types, and a
Protocol cannot be looked at from outside.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints

from jaxtyping import AbstractArray
from jaxtyping._storage import pop_shape_memo, push_shape_memo


def checked(typechecker: Any = None) -> Callable[[Any], Any]:
    """Return a decorator: TypeError if an array that its function is given, or returns, is not as annotated."""
    return _checked


def _checked(thing: Any) -> Any:
    if inspect.isclass(thing):
        if dataclasses.is_dataclass(thing) and "__init__" in vars(thing):
            thing.__init__ = _checked(thing.__init__)
        return thing
    names = tuple(inspect.signature(thing).parameters)

    @functools.cache
    def arrays() -> dict[str, tuple[Any, tuple[type, ...]]]:
        return {name: choices(hint) for name, hint in get_type_hints(thing).items() if is_array(hint)}

    @functools.wraps(thing)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not (hints := arrays()):
            return thing(*args, **kwargs)
        given = dict(zip(names, args, strict=False)) | kwargs
        push_shape_memo(given)  # an axis has one size in a call, by its name or by that of an argument
        try:
            for name, value in given.items():
                if name in hints:
                    require(value, *hints[name], f"{thing.__qualname__}: {name}")
            answer = thing(*args, **kwargs)
            if "return" in hints:
                require(answer, *hints["return"], f"{thing.__qualname__}: what it returns")
            return answer
        finally:
            pop_shape_memo()

    return call


def is_array(hint: Any) -> bool:
    """Tell whether a hint is of an array, or of one of several things of which an array is one."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(map(is_array, get_args(hint)))
    return inspect.isclass(hint) and issubclass(hint, AbstractArray)


def choices(hint: Any) -> tuple[tuple[Any, ...], tuple[type, ...]]:
    """Return the arrays and the other classes that a hint allows."""
    found = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(filter(is_array, found)), tuple(each for each in found if inspect.isclass(each) and not is_array(each))


def require(value: Any, arrays: tuple[Any, ...], others: tuple[type, ...], what: str) -> None:
    """Raise TypeError if `value` is none of them."""
    if isinstance(value, others) or any(isinstance(value, array) for array in arrays):
        return
    shape = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
    raise TypeError(f"{what} should be {' or '.join(str(array) for array in arrays)}, got {shape}")
