"""The processes that share a run: one alone, or those that `torchrun` started, each with a device of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed
from torch.distributed import DistError, ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

from limner.core.errors import LostPeer

Over = Literal["none", "all", "machine"]
"""Over which processes weights are spread: each has its own; all of a run; those of each machine."""
T = TypeVar("T")
GONE = re.compile("by peer|timed? ?out|no longer|broken pipe", re.IGNORECASE)
"""What gloo says, in a RuntimeError of no class of its own, when a peer does not answer."""
ACROSS, RING, WITHIN = "crew", "ring", "ulysses"
"""Axes of a mesh of crews: which crew, and diffusers' names of the two ways in which a crew may share tokens."""


@contextmanager
def among_peers() -> Iterator[None]:
    """Raise LostPeer, one line, where what processes do together fails because one of them has ended."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, DistError) and not GONE.search(str(error)):
            raise
        raise LostPeer(
            "another of the processes that share this run has ended, or does not answer; the last checkpoint stands: "
            "go on with --resume"
        ) from error


class Company(Protocol):
    """What each member does alike because it holds a part of the weights only (`engine/lockstep.py`)."""

    def meet(self) -> None:
        """Take part in the passes that others still make, until all have come here."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Make a loss's backward pass, and leave in each parameter its part of all members' gradients."""
        ...


@dataclass(frozen=True)
class Crew:
    """Processes that make each pass together, each with a part of the tokens of every sample (context parallelism).

    They have the same samples, weights and random numbers, and do the same in the same order. The `mesh` is all
    processes: crews, and within each the axes that diffusers asks for.
    """

    mesh: DeviceMesh

    @property
    def size(self) -> int:
        """How many make a pass."""
        return self.mesh[WITHIN].size()

    @property
    def place(self) -> int:
        """Which of them this process is."""
        return self.mesh[WITHIN].get_local_rank()

    @property
    def within(self) -> ProcessGroup:
        """The processes of this crew."""
        return self.mesh[WITHIN].get_group()

    @property
    def across(self) -> ProcessGroup:
        """The processes of this one's place in all crews."""
        return self.mesh[ACROSS].get_group()


@dataclass(frozen=True)
class Team:
    """Member `rank` of `size`. What all must agree on goes through `sum` and `gather`, which every member calls alike.

    Numbers that are summed over members in another order than one process would differ from it by rounding, no more.
    Where weights are spread over members there is a `company`; what all call alike is then where they meet. Where
    several processes make a pass together, a member is their `crew`: each of them asks the same and is told the same.
    """

    device: torch.device = torch.device("cpu")
    rank: int = 0
    size: int = 1
    company: Company | None = None
    crew: Crew | None = None

    def share(self, count: int) -> range:
        """Return which of `count` things are this member's: equal runs of them, the first member's first."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def rows(self, count: int) -> slice:
        """Return which rows of what `gather` returns are this member's, if it has `count` of them."""
        first = int(self.gather(torch.tensor([count]))[: self.rank].sum())
        return slice(first, first + count)

    @property
    def processes(self) -> int:
        """How many processes there are."""
        return self.size * (1 if self.crew is None else self.crew.size)

    @property
    def speaks(self) -> bool:
        """Whether this process does what one of a crew does for all of it: asks judges, writes samples."""
        return self.crew is None or self.crew.place == 0

    @property
    def leads(self) -> bool:
        """Whether this process writes the folder and speaks to the person."""
        return self.rank == 0 and self.speaks

    def told(self, make: Callable[[], T]) -> T:
        """Return what the process of a crew that speaks makes, which the others are sent; one alone makes it."""
        if self.crew is None:
            return make()
        made: list[Any] = [make() if self.speaks else None]
        with among_peers():
            distributed.broadcast_object_list(made, group=self.crew.within, group_src=0)
        return made[0]

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

    def gather_objects(self, things: Sequence[Any]) -> list[Any]:
        """Return the things of all members, those of the first first; each is one that `pickle` can send."""
        every: list[Sequence[Any]] = [things]
        if self.size > 1:
            self.meet()
            every = [()] * self.size
            with among_peers():
                distributed.all_gather_object(every, things, self._across)
        return [thing for part in every for thing in part]

    def sum(self, values: Shaped[Tensor, "*axes"]) -> Shaped[Tensor, "*axes"]:
        """Return the sum over members, float64."""
        total = values.detach().double()
        if self.size > 1:
            self.meet()
            total = total.to(self.device, copy=True)
            with among_peers():
                distributed.all_reduce(total, group=self._across)
        return total.to(values.device)

    def sum_of_processes(self, values: Shaped[Tensor, "*axes"]) -> Shaped[Tensor, "*axes"]:
        """Return the sum over processes, also over those of a crew, of what each has of its own; float64."""
        total = self.sum(values)
        if self.crew is not None:
            total = total.to(self.device, copy=True)
            with among_peers():
                distributed.all_reduce(total, group=self.crew.within)
        return total.to(values.device)

    def backward(self, loss: Tensor) -> None:
        """Make a loss's backward pass."""
        if self.company is None:
            loss.backward()
        else:
            self.company.backward(loss)

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Put the sum of all processes' gradients in place of each one's own, in one exchange; none counts as zero.

        Each process of a crew has what its part of the tokens gives. Of weights that are spread the backward passes
        have done so.
        """
        if self.processes == 1 or self.company is not None or not parameters:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with among_peers():
            distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])

    def meet(self) -> None:
        """Wait, where weights are spread, until all have come here and no pass is left to be made."""
        if self.company is not None:
            self.company.meet()

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.processes > 1:
            self.meet()
            with among_peers():
                distributed.barrier()

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked, so that a clock tells the truth."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    @property
    def _across(self) -> ProcessGroup | None:
        """The processes that a sum over members is of: one of each."""
        return None if self.crew is None else self.crew.across

    def _each(self, tensor: Tensor) -> list[Tensor]:
        """Return every member's tensor; all have one shape."""
        self.meet()
        sent = tensor.to(self.device).contiguous()
        received = [torch.empty_like(sent) for _ in range(self.size)]
        with among_peers():
            distributed.all_gather(received, sent, self._across)
        return received


ALONE = Team()
"""One process by itself, on the CPU."""
