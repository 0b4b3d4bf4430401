"""A frozen base whose blocks wait in the machine's memory, and are on the accelerator only while they run.

Of a block the frozen tensors of the base wait; what learns, and an old policy's updates, stay on the device. What is
brought is a copy, which stands in the block for as long as the block runs. Autograd keeps the copies that a gradient
passes through, so activations are to be checkpointed: then a backward pass brings the blocks again, one by one.

diffusers has such hooks for sampling (`apply_group_offloading`). They move a parameter itself, the trained ones too: a
gradient would then pass through what is on the CPU again, and an optimizer have its weights there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.engine.blocks import blocks_of
from limner.engine.weights import Weights

Slot = tuple[dict[str, Any], str]
"""Where a module has a tensor: its parameters or buffers, and the name among them."""


def slots(module: nn.Module) -> Iterator[tuple[Slot, str, Tensor]]:
    """Yield where each tensor of a module is, how it is called from there, and the tensor."""
    for name, part in module.named_modules():
        for held in (vars(part)["_parameters"], vars(part)["_buffers"]):
            yield from (((held, key), f"{name}.{key}", each) for key, each in held.items() if each is not None)


def waiting(module: nn.Module) -> Iterator[tuple[Slot, Tensor]]:
    """Yield where the frozen tensors of a base are, and these."""
    for slot, name, each in slots(module):
        if ".lora_" not in f".{name}" and not each.requires_grad:
            yield slot, each


class Bringing:
    """Brings what waits of a module to `device` for as long as a context lasts; what is there already stays."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._there: set[tuple[int, str]] = set()

    @contextmanager
    def __call__(self, module: nn.Module) -> Iterator[None]:
        """Have the module's tensors on the device inside."""
        home = [(slot, each) for slot, each in waiting(module) if _named(slot) not in self._there]
        for (held, key), each in home:
            held[key] = _like(each, each.to(self.device, non_blocking=True, copy=True))
            self._there.add(_named((held, key)))
        try:
            yield
        finally:
            for (held, key), each in home:
                held[key] = each
                self._there.remove(_named((held, key)))

    def watch(self, network: nn.Module) -> None:
        """Bring each block of a network whenever it runs. Raises UserError for a network without blocks."""
        blocks = list(blocks_of(network))
        if not blocks:
            raise UserError(f"model.offload: a {type(network).__name__} has no blocks that could wait: take none")
        for block in blocks:
            inside: list[ExitStack] = []

            def enter(module: nn.Module, _: Any, inside: list[ExitStack] = inside) -> None:
                inside.append(ExitStack())
                inside[-1].enter_context(self(module))

            def leave(module: nn.Module, _: Any, __: Any, inside: list[ExitStack] = inside) -> None:
                inside.pop().close()

            block.register_forward_pre_hook(enter)
            block.register_forward_hook(leave, always_call=True)  # a recomputation ends where it has what it wants


def offload(weights: Weights, device: torch.device) -> tuple[Weights, Bringing]:
    """Bring to `device` all but the frozen tensors of blocks, and have these wait on the CPU; return who brings them.

    Parameters that moved are others than before. Raises UserError for a network without blocks, or one that begins with
    what waits, so that it would not be known where it computes.
    """
    networks = {id(each): each for role in weights.roles.values() for each in role.networks.values()}.values()
    bringing, moved = Bringing(device), dict[int, Tensor]()
    for network in networks:
        bringing.watch(network)
        rests = [(slot, each) for block in blocks_of(network) for slot, each in waiting(block)]
        if any(each is next(network.parameters()) for _, each in rests):
            raise UserError(f"model.offload: a {type(network).__name__} begins with a block: take none")
        resting = {_named(slot) for slot, _ in rests}
        for slot, _, each in list(slots(network)):
            away = _named(slot) in resting
            if id(each) not in moved:
                moved[id(each)] = _like(each, _resting(each, device) if away else each.to(device))
            slot[0][slot[1]] = moved[id(each)]
    return replace(weights, policy=_followed(weights.policy, moved), old=_followed(weights.old, moved)), bringing


def _resting(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the CPU, in pages that a cuda device reads by itself."""
    away = tensor.detach().cpu()
    return away.pin_memory() if device.type == "cuda" and torch.cuda.is_available() else away


def _like(tensor: Tensor, moved: Tensor) -> Tensor:
    """Return what was moved as what it was: a parameter, or none."""
    return nn.Parameter(moved.detach(), tensor.requires_grad) if isinstance(tensor, nn.Parameter) else moved


def _followed(named: Mapping[str, nn.Parameter], moved: Mapping[int, Any]) -> dict[str, nn.Parameter]:
    return {name: moved[id(each)] for name, each in named.items()}


def _named(slot: Slot) -> tuple[int, str]:
    return id(slot[0]), slot[1]
