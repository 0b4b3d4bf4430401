"""Weights spread over processes: each keeps a part of every tensor, and they are brought together block by block.

That is torch's FSDP2, `fully_shard`, on the blocks of each network and then on what is around them: parameters, frozen
and trained, gradients, averages and the optimizer's moments are in parts, activations are each process's own. With
"machine" the parts are of the processes of a machine, and machines hold the same (hybrid sharding): weights then travel
within a machine, and between them only the sums of gradients.

Source: ZeRO stage 3, Rajbhandari et al., arXiv 1910.02054, section 5.3; FSDP, Zhao et al., arXiv 2304.11277.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from limner.core.errors import UserError
from limner.core.team import Over, Team, among_peers
from limner.engine.blocks import blocks_of
from limner.engine.lockstep import Lockstep
from limner.engine.precision import Precision
from limner.engine.shards import is_spread, own
from limner.engine.weights import Weights

NEEDED = ("set_gradient_divide_factor", "set_force_sum_reduction_for_comms")
"""Methods of torch's FSDPModule that a run asks, and older ones lack."""


def require_torch() -> None:
    """Raise UserError where this torch cannot add up gradients as a run does."""
    if lacking := [name for name in NEEDED if name not in dir(FSDPModule)]:
        raise UserError(
            f"shard: torch {torch.__version__} has no FSDPModule.{lacking[0]}, by which gradients are added up: "
            "install a newer one (2.13 is what was tried), or take shard none"
        )


def spread(weights: Weights, over: Over, precision: Precision, team: Team) -> tuple[Weights, Team]:
    """Return weights of which each member holds a part, on its device, and the team that makes every pass together.

    A member alone, and "none", keep what they have. Raises UserError for networks without blocks, and for machines of
    unequal numbers of processes.
    """
    if over == "none" or team.size == 1:
        return weights, team
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # of views that would be written to: none is
    mesh, company = _mesh(over, team), Lockstep(precision)
    networks = {id(each): (name, each) for role in weights.roles.values() for name, each in role.networks.items()}
    places = {
        id(parameter): (module, key)
        for _, network in networks.values()
        for module in network.modules()
        for key, parameter in module.named_parameters(recurse=False)
    }
    found = {part: {name: places[id(p)] for name, p in each.items()} for part, each in _parts(weights).items()}
    sent = any(team.gather_objects([any(each.is_meta for _, n in networks.values() for each in n.parameters())]))
    for name, network in networks.values():
        company.watch(network, partial(shard, name, network, mesh, sent))
    now = {
        part: {name: module.get_parameter(key) for name, (module, key) in each.items()} for part, each in found.items()
    }
    return replace(weights, policy=now["policy"], old=now["old"]), replace(team, company=company)


def _parts(weights: Weights) -> dict[str, Mapping[str, nn.Parameter]]:
    return {"policy": weights.policy, "old": weights.old}


def _mesh(over: Over, team: Team) -> DeviceMesh:
    kind = team.device.type
    if over == "all":
        return init_device_mesh(kind, (team.size,), mesh_dim_names=("part",))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", team.size))
    if team.size % here:
        raise UserError(
            f"shard machine: {here} processes are here, and {team.size} in all are no multiple of that: start as many "
            "on each machine, or take shard all"
        )
    return init_device_mesh(kind, (team.size // here, here), mesh_dim_names=("machine", "part"))


def shard(name: str, network: nn.Module, mesh: DeviceMesh, sent: bool = False) -> None:
    """Shard the blocks of a network, then the rest of it, whose numbers are the first process's if they are `sent`.

    Others, which may have parameters on the meta device, then never hold more than a block beside their parts.
    Nothing stays together after a forward pass, the root's own weights neither: an average or an optimizer step is
    written to the parts. Gradients are added up, not averaged: losses have everyone's denominator. The classes are put
    back: what FSDP needs are its hooks, and libraries write the name of the class beside weights.
    """
    blocks = list(blocks_of(network))
    if not blocks:
        raise UserError(f"shard: network {name!r} ({type(network).__name__}) has no blocks to spread: take shard none")
    for module in (*blocks, network):
        kind = type(module)
        given = _there(module) if sent else []
        sharded = fully_shard(module, mesh=mesh, reshard_after_forward=True)
        assert isinstance(sharded, FSDPModule)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no factor
        module.__class__ = kind
        while given:
            place, key, numbers = given.pop()
            _send(place.get_parameter(key), numbers, mesh)
            del numbers
    if sent:
        _send_buffers(network, mesh)


def _there(module: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Return where the parameters of a module are that are not cut yet, and what they are, or will be.

    What is on the meta device gets memory, which nobody writes to before it is cut.
    """
    found: list[tuple[nn.Module, str, Tensor]] = []
    made: dict[int, nn.Parameter] = {}
    for place in module.modules():
        for key, parameter in list(place.named_parameters(recurse=False)):
            if is_spread(parameter):
                continue
            if parameter.is_meta:
                empty = torch.empty_like(parameter, device="cpu")
                made.setdefault(id(parameter), nn.Parameter(empty, parameter.requires_grad))
                place.register_parameter(key, made[id(parameter)])
            found.append((place, key, place.get_parameter(key).detach()))
    return found


def _send(parameter: Tensor, numbers: Tensor, mesh: DeviceMesh) -> None:
    """Give each process its part of the first one's numbers."""
    spread = cast(DTensor, parameter)
    numbers = numbers.to(mesh.device_type)
    with among_peers():
        parts = distribute_tensor(numbers, mesh, spread.placements, src_data_rank=0)
    with torch.no_grad():
        own(parameter).copy_(own(parts))


def _send_buffers(network: nn.Module, mesh: DeviceMesh) -> None:
    """Give each process the first one's buffers, as they are there."""
    named = dict(network.named_buffers())
    with among_peers():
        told = [{name: (each.dtype, each.shape) for name, each in named.items()}]
        distributed.broadcast_object_list(told, src=0)
        for name, (dtype, shape) in told[0].items():
            place, _, key = name.rpartition(".")
            found = named[name].to(dtype).expand(shape).contiguous()
            distributed.broadcast(found.reshape(-1).view(torch.uint8), src=0)
            vars(network.get_submodule(place))["_buffers"][key] = found
