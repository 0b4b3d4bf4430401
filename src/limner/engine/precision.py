"""How networks run: in what number format, with what memory for activations, compiled or not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from limner.core.errors import UserError


@dataclass(frozen=True)
class Precision:
    """Networks run in `dtype`; what enters and leaves them, and all that is computed from it, is float32."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def context(self, device: torch.device) -> AbstractContextManager[None]:
        """Return the context in which a network runs on `device`; it ends the autocast cache with each evaluation."""
        return torch.autocast(device.type, _DTYPES[self.dtype], enabled=self.dtype != "float32")

    def freeze(self, network: nn.Module) -> None:
        """Make parameters constants, kept in `dtype`: autocast would cast them anew in every evaluation."""
        for parameter in network.requires_grad_(False).parameters():
            parameter.data = parameter.data.to(_DTYPES[self.dtype])

    @property
    def torch_dtype(self) -> torch.dtype:
        """What networks are kept in."""
        return _DTYPES[self.dtype]


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@runtime_checkable
class Checkpointable(Protocol):
    """A network that can recompute its blocks in the backward pass: every diffusers model."""

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Callable[..., Any]) -> None: ...


def checkpoint_activations(
    networks: Mapping[str, nn.Module], replay: Callable[[], AbstractContextManager[None]] = nullcontext
) -> None:
    """Recompute each block's activations in the backward pass instead of keeping them.

    `replay()` is asked in the forward pass for the context in which the backward pass recomputes: with `Weights.replay`
    the adapter that ran then, whichever is active by the time.
    """

    def run(block: nn.Module, *inputs: Any) -> Any:
        return checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), replay()))

    for name, network in networks.items():
        if not isinstance(network, Checkpointable):
            raise UserError(f"network {name!r} ({type(network).__name__}) has no activation checkpointing; turn it off")
        network.enable_gradient_checkpointing(run)


LIMIT = 64
"""Codes that are made of one kind of block at most."""


def compile_blocks(networks: Mapping[str, nn.Module], backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the blocks that a network repeats (`torch.compile`): one code serves all of them, so it is soon made.

    They are those that diffusers names `_repeated_blocks`, and transformers `_no_split_modules`. Raises UserError for a
    network that names none, and where the compiler of a CPU's code is missing.
    """
    for name, network in networks.items():
        kinds = {*(getattr(network, "_repeated_blocks", None) or getattr(network, "_no_split_modules", None) or ())}
        blocks = [module for module in network.modules() if type(module).__name__ in kinds]
        if not blocks:
            raise UserError(
                f"precision.compile: network {name!r} ({type(network).__name__}) names no blocks that it repeats; "
                "leave it out"
            )
        if next(network.parameters()).device.type == "cpu" and not any(map(shutil.which, _compilers())):
            raise UserError("precision.compile needs a C++ compiler on a CPU, and none is found: install g++")
        # widths, roles, and passes with gradients and without: each is a code of its own, and past a limit none is made
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, LIMIT)
        for block in blocks:
            block.compile(backend=backend)


def _compilers() -> tuple[str, ...]:
    return (os.environ["CXX"],) if os.environ.get("CXX") else ("g++", "clang++")
