"""The processes that share a run: one alone, or those that `torchrun` started, each with a device of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed

from limner.core.errors import UserError

RENDEZVOUS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process it starts, beside LOCAL_RANK."""


@dataclass(frozen=True)
class Team:
    """Member `rank` of `size`. What all must agree on goes through `sum` and `gather`, which every member calls alike.

    Numbers that are summed over members in another order than one process would differ from it by rounding, no more.
    """

    device: torch.device = torch.device("cpu")
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this member writes the folder and speaks to the person."""
        return self.rank == 0

    def gather(self, rows: Shaped[Tensor, "mine *axes"]) -> Shaped[Tensor, "all *axes"]:
        """Return the rows of all members, those of the first first; members may have different numbers of them."""
        if self.size == 1:
            return rows
        counts = self._each(torch.tensor([len(rows)]))
        sent = rows.to(torch.uint8) if rows.dtype == torch.bool else rows
        padded = sent.new_zeros(int(max(counts)), *sent.shape[1:])
        padded[: len(rows)] = sent
        parts = [part[: int(count)] for part, count in zip(self._each(padded), counts, strict=True)]
        return torch.cat(parts).to(rows)

    def sum(self, values: Shaped[Tensor, "*axes"]) -> Shaped[Tensor, "*axes"]:
        """Return the sum over members, float64."""
        total = values.detach().double()
        if self.size > 1:
            total = total.to(self.device, copy=True)
            distributed.all_reduce(total)
        return total.to(values.device)

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Put the sum of all members' gradients in place of each one's own, in one exchange; none counts as zero."""
        if self.size == 1 or not parameters:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])

    def wait(self) -> None:
        """Wait until every member is here."""
        if self.size > 1:
            distributed.barrier()

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked, so that a clock tells the truth."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def _each(self, tensor: Tensor) -> list[Tensor]:
        """Return every member's tensor; all have one shape."""
        sent = tensor.to(self.device).contiguous()
        received = [torch.empty_like(sent) for _ in range(self.size)]
        distributed.all_gather(received, sent)
        return received


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
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Team(device, distributed.get_rank(), distributed.get_world_size())
