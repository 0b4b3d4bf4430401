"""A CUDA device that is only pretended: what would fail for want of a move to it fails here too, on any machine.

A tensor that was moved there says that it is on `cuda:0`, and holds its numbers all the same: judges, files and
assertions read them. A call of torch on tensors of both places is refused, as CUDA refuses it. What CUDA allows is
allowed: copies, indices on the CPU, and a CPU scalar beside CUDA tensors. A copy from there that is not waited for
(`non_blocking`) has no numbers until an event that was recorded after it is waited for. `waits` tells which calls would
have waited for the card.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward as run_backward
from torch.overrides import TorchFunctionMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
SPEAK_OF_A_PLACE = (torch.device, torch._C._nn._parse_to)
"""They are told of a device, and put nothing there."""
COPIES = {"copy_", "_foreach_copy_"}
INDEXED = {"__getitem__", "__setitem__", "index_put", "index_put_"}
NO_SCALARS = {"cat", "concat", "stack", "linear", "matmul", "einsum", "gather", "index_add", "searchsorted"}
"""Calls that take no CPU scalar beside CUDA tensors either."""
READS = {"item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "__contains__"}
SIZED = {"nonzero", "unique", "unique_consecutive", "masked_select", "bincount", "equal", "allclose", "argwhere"}
"""Calls whose result has a size, or is a number, that the card must first have found."""


class OnCuda(Tensor):
    """Numbers that are said to be on `CUDA`."""

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def detach(self) -> Tensor:  # activation checkpointing calls it where no watch looks on
        return marked(super().detach(), True)

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor first")

    __array__ = numpy

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = self.detach().clone()
        if isinstance(self, nn.Parameter):
            copied = nn.Parameter(copied, self.requires_grad)
        return memo.setdefault(id(self), copied)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be pickled as a plain tensor."""
        return self.detach().as_subclass(Tensor).__reduce_ex__(protocol)


ON_THE_WAY: list[tuple[Tensor, Tensor]] = []
"""Copies to the CPU that are not there yet, and what they will be."""


def arrive(count: int | None = None) -> None:
    """Let the first `count` of these, or all, be there."""
    with torch.no_grad():
        for there, values in ON_THE_WAY[:count]:
            there.copy_(values)
    del ON_THE_WAY[:count]


class Event:
    """Tells when what was asked for before `record` is done."""

    def record(self, stream: object) -> None:
        self.asked = len(ON_THE_WAY)

    def synchronize(self) -> None:
        arrive(self.asked)


WAITED: list[str] = []
"""Calls so far for which a machine waits until the card has done what it was told, and where they were made."""


@contextmanager
def waits() -> Iterator[list[str]]:
    """Give a list, in which those calls of the block that wait for the card are when it ends."""
    found: list[str] = []
    WAITED.clear()
    yield found
    found += WAITED


def waits_for(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a call waits: it reads what is on the card, or copies from or to it and does not say otherwise.

    An index on the CPU is such a copy, and one by a mask counts what is to be taken.
    """
    there = [isinstance(x, OnCuda) for x in tensors_of(args) + tensors_of(kwargs)]
    if name in READS | SIZED:
        return any(there)
    asked = asked_for(name, args, kwargs)
    if name == "to":
        moves = asked is not None and (asked.type == "cuda") != there[0]
        return moves and not kwargs.get("non_blocking")
    if name in COPIES:
        return len(set(there)) > 1 and not kwargs.get("non_blocking")
    if name == "tensor":
        return asked is not None and asked.type == "cuda"
    if name in INDEXED and isinstance(args[0], OnCuda):
        index = tensors_of(args[1:2])
        return any(not isinstance(x, OnCuda) or x.dtype == torch.bool for x in index)
    return name == "repeat_interleave" and any(there[1:]) and kwargs.get("output_size") is None


def caller() -> str:
    """Return the line, not of torch or of a test, that made the call."""
    for frame in reversed(traceback.extract_stack()):
        if "/torch/" not in frame.filename and "/tests/" not in frame.filename:
            place = re.split("/src/|/site-packages/", frame.filename)[-1]
            return f"{place}:{frame.lineno} {frame.line}"
    return "a test"


class Watch(TorchFunctionMode):
    """Sees every call of torch, refuses those on tensors of both places, and marks what the others return."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in SPEAK_OF_A_PLACE:
            return func(*args, **kwargs)
        if func is torch._has_compatible_shallow_copy_type:  # else a module would not mark its parameters
            return type(args[0]) is type(args[1])
        if func is Tensor.backward:  # with this watch, for what is computed again in it
            with self:
                return run_backward(
                    (args[0],), (torch.ones(()),), False, False, (), allow_unreachable=True, accumulate_grad=True
                )
        if func is Tensor.pin_memory:  # which a card alone can do
            return args[0]
        if waits_for(func.__name__, args, kwargs):
            WAITED.append(f"{func.__name__} in {caller()}")
        asked = asked_for(func.__name__, args, kwargs)
        there = agreed(func.__name__, args, kwargs) if asked is None else asked.type == "cuda"
        if asked is not None:
            args = tuple(CPU if names_cuda(x) else x for x in args)
            kwargs = {name: CPU if names_cuda(x) else x for name, x in kwargs.items()}
        comes = func is Tensor.to and kwargs.get("non_blocking") and isinstance(args[0], OnCuda) and not there
        with torch._C.DisableTorchFunctionSubclass():
            found = marked(func(*args, **kwargs), there)
            if comes and found.is_floating_point():
                ON_THE_WAY.append((late := torch.full_like(found, torch.nan), found))
                return late
            return found


def names_cuda(x: Any) -> bool:
    return (isinstance(x, torch.device) and x.type == "cuda") or (isinstance(x, str) and x.startswith("cuda"))


def marked(x: Any, there: bool) -> Any:
    """Return tensors that say where they are, and anything else as it is."""
    if isinstance(x, Tensor):
        return x if isinstance(x, OnCuda) == there else x.as_subclass(OnCuda if there else Tensor)
    if isinstance(x, list | tuple) and not isinstance(x, torch.Size):
        return type(x)([marked(part, there) for part in x])
    return x


def tensors_of(x: Any) -> list[Tensor]:
    """Return the tensors among arguments, in lists and in keywords too."""
    if isinstance(x, Tensor):
        return [x]
    parts = x.values() if isinstance(x, dict) else x if type(x) in (list, tuple) else ()
    return [tensor for part in parts for tensor in tensors_of(part)]


def asked_for(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device | None:
    """Return where a call is asked to put what it returns."""
    if name in ("cpu", "cuda"):
        return torch.device(name)
    named = [kwargs.get("device"), kwargs.get("other")]
    if name in ("to", "type_as"):
        named += args[1:2]
    for x in named:
        if isinstance(x, Tensor):
            return x.device
        if isinstance(x, str | torch.device):
            return torch.device(x)
    return None


def agreed(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether the tensors of a call are on CUDA. Raises RuntimeError, as CUDA does, if they are on both."""
    tensors = tensors_of(args) + tensors_of(kwargs)
    there = any(isinstance(x, OnCuda) for x in tensors)
    if not there or name in COPIES:
        return there and isinstance(tensors[0], OnCuda)
    if name in INDEXED and isinstance(args[0], OnCuda):
        tensors = [x for x in (args[0], *args[2:]) if isinstance(x, Tensor)]
    if any(not isinstance(x, OnCuda) and (x.ndim or name in NO_SCALARS) for x in tensors):
        places = ", ".join(f"{tuple(x.shape)} on {x.device.type}" for x in tensors)
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} was called with {places}")
    return True


@contextmanager
def pretended_cuda() -> Iterator[torch.device]:
    """Give the device for as long as it is pretended to be there; autocast does there what it does on the CPU."""
    autocast = torch.autocast
    driver: dict[str, Any] = {
        "is_available": lambda: True,
        "synchronize": lambda device=None: arrive(),
        "current_stream": lambda device=None: None,
        "Event": Event,
        "max_memory_allocated": lambda device=None: 0,
        "mem_get_info": lambda device=None: (2**35, 2**36),
        "get_device_name": lambda device=None: "pretended",
    }
    with (
        mock.patch("torch.autocast", lambda kind, *args, **kwargs: autocast("cpu", *args, **kwargs)),
        mock.patch.multiple("torch.cuda", **driver),
        Watch(),
    ):
        yield CUDA
