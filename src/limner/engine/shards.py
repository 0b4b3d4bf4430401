"""Tensors of which each process holds a part (torch's DTensor): made whole again, and cut as another one is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from limner.core.team import Team
from limner.core.tree import tree_map
from limner.core.types import Tree

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_spread(tensor: Tensor) -> bool:
    """Tell whether processes hold a part of a tensor each, without importing DTensor (a second) where none can be."""
    if type(tensor) in (Tensor, nn.Parameter):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def own(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds, by which it is written to: itself, unless it is spread."""
    return cast("DTensor", tensor.detach()).to_local() if is_spread(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; of one that is spread every process asks alike."""
    return cast("DTensor", tensor).full_tensor() if is_spread(tensor) else tensor


def cut_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a whole tensor, which every process has alike, spread as `other` is; as it is, if that is not."""
    if not is_spread(other):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    there, like = tensor.to(other.device), cast("DTensor", other)
    return cast(Tensor, distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None))


def gathered(tree: Tree, team: Team) -> Tree:
    """Return what a checkpoint is to keep of a tree, which every member gives alike: all of what is spread.

    That is on the CPU and the leader's alone; others get nothing in its place.
    """
    team.wait()

    def every(tensor: Tensor) -> Tensor:
        if not is_spread(tensor):
            return tensor
        found = whole(tensor)
        return found.cpu() if team.leads else torch.empty(0)

    return tree_map(every, tree)


@contextmanager
def made_whole(networks: Iterable[nn.Module], team: Team) -> Iterator[None]:
    """Have what is trained of networks, and is spread, whole inside, on the leader's CPU; every member goes in alike.

    No network can run there.
    """
    team.wait()
    spread: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in dict.fromkeys(each for network in networks for each in network.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.requires_grad and is_spread(parameter):
                spread.append((module, name, parameter))
                found = whole(parameter.detach())
                if team.leads:
                    module.register_parameter(name, nn.Parameter(found.cpu()))
    try:
        yield
    finally:
        for module, name, parameter in spread:
            module.register_parameter(name, parameter)
