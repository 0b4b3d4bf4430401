"""Which device a run uses, and which processes share it."""

from __future__ import annotations

import atexit
import os

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from limner.core.errors import UserError
from limner.core.team import ACROSS, RING, WITHIN, Crew, Team, among_peers

RENDEZVOUS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process it starts, beside LOCAL_RANK."""


def resolve(device: str) -> torch.device:
    """Return the device named `device` ("cpu", "mps", "cuda", "cuda:1"); "auto": the first of cuda, mps, cpu.

    Raises UserError if there is no such device on this machine.
    """
    if device == "auto":
        return torch.device(_available()[0])
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"unknown device {device!r}; use auto, cpu, cuda, cuda:INDEX or mps") from error
    if found.type not in _available():
        raise UserError(f"device {device!r} is not available here; available: auto, {', '.join(_available())}")
    count = torch.cuda.device_count() if found.type == "cuda" else 1
    if found.index is not None and not found.index < count:
        raise UserError(f"device {device!r} is not available here; {found.type} indices end at {count - 1}")
    return found


def join(device: torch.device) -> Team:
    """Return the team that torchrun started this process for, or this process alone.

    Of several cuda devices of a machine each member takes the one of its LOCAL_RANK. Raises UserError for a rendezvous
    that is told by halves, and for a device that several processes cannot share.
    """
    told = [name for name in RENDEZVOUS if os.environ.get(name)]
    if "WORLD_SIZE" not in told or os.environ["WORLD_SIZE"] == "1":
        return Team(device)
    missing = sorted(set(RENDEZVOUS) - set(told))
    if missing:
        raise UserError(f"WORLD_SIZE is set, but {', '.join(missing)} is not: start the processes with torchrun")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"several processes cannot share a {device.type} device: take --device cpu, or one process")
    if device.type == "cuda":
        local, here = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= here:
            raise UserError(
                f"each process takes a cuda device of its own, and {here} {'is' if here == 1 else 'are'} here, too few "
                f"for {local + 1}: start fewer, or take --device cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        with among_peers():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    return Team(device, distributed.get_rank(), distributed.get_world_size())


def in_crews(team: Team, size: int) -> Team:
    """Return the team whose members are crews of `size` neighbouring processes, whole ones; of 1, the team itself."""
    if size == 1:
        return team
    crews = team.size // size
    with among_peers():
        mesh = init_device_mesh(team.device.type, (crews, 1, size), mesh_dim_names=(ACROSS, RING, WITHIN))
    return Team(team.device, team.rank // size, crews, crew=Crew(mesh))


def _available() -> list[str]:
    """Return the kinds of device of this machine, the best first."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [kind for kind, is_there in there.items() if is_there]
