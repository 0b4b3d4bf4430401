"""The number format in which networks run, and the memory their activations take."""

from __future__ import annotations

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
    """A network that may recompute its blocks in the backward pass: nearly every diffusers model."""

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Callable[..., Any]) -> None: ...


def checkpoint_activations(
    networks: Mapping[str, nn.Module],
    replay: Callable[[], AbstractContextManager[None]] = nullcontext,
    bringing: Callable[[nn.Module], AbstractContextManager[None]] = lambda block: nullcontext(),
) -> None:
    """Recompute each block's activations in the backward pass instead of keeping them.

    `replay()` is asked in the forward pass for the context in which the backward pass recomputes: with `Weights.replay`
    the adapter that ran then, whichever is active by the time. A block runs inside `bringing(block)`, both times.
    """

    def run(block: nn.Module, *inputs: Any, **named: Any) -> Any:
        def brought() -> Any:
            with bringing(block):
                return block(*inputs, **named)

        return checkpoint(brought, use_reentrant=False, context_fn=lambda: (nullcontext(), replay()))

    for name, network in networks.items():
        refusal = f"network {name!r} ({type(network).__name__}) has no activation checkpointing; turn it off"
        if not isinstance(network, Checkpointable):
            raise UserError(refusal)
        try:
            network.enable_gradient_checkpointing(run)
        except ValueError as error:  # a diffusers model whose forward pass knows of none, as Hunyuan-DiT's
            raise UserError(refusal) from error
