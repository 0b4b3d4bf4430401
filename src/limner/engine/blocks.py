"""The blocks of a network, and their compilation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from limner.core.errors import UserError

LIMIT = 64
"""Codes that are made of one kind of block at most."""


def lists_of(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.ModuleList]]:
    """Yield the outermost lists of a network, each with its name behind `name`."""
    for key, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            yield f"{name}.{key}", child
        else:
            yield from lists_of(child, f"{name}.{key}")


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of these lists that have parameters, which are a network's blocks."""
    for _, blocks in lists_of(network):
        yield from (block for block in blocks if any(True for _ in block.parameters()))


def compile_blocks(networks: Mapping[str, nn.Module], backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the blocks of each network (`torch.compile`): one code serves all that are alike, so it is soon made.

    Raises UserError for a network without blocks, and where the compiler of a CPU's code is missing.
    """
    for name, network in networks.items():
        blocks = list(blocks_of(network))
        if not blocks:
            kind = type(network).__name__
            raise UserError(f"precision.compile: network {name!r} ({kind}) has no blocks to compile: leave it out")
        if next(network.parameters()).device.type == "cpu" and not any(map(shutil.which, _compilers())):
            raise UserError("precision.compile needs a C++ compiler on a CPU, and none is found: install g++")
        # widths, roles, and passes with gradients and without: each is a code of its own, and past a limit none is made
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, LIMIT)
        for block in blocks:
            block.compile(backend=backend)


def _compilers() -> tuple[str, ...]:
    return (os.environ["CXX"],) if os.environ.get("CXX") else ("g++", "clang++")
