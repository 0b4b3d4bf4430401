"""Splitting the samples of a rollout over optimizer steps, and each step over passes of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Batch, Decisions, LossOutput, Renoised
from limner.diffusion.timesteps import TrainingTimes

Pack = TypeVar("Pack", Decisions, Renoised)
PassLoss: TypeAlias = tuple[Float[Tensor, " pack"], dict[str, Float[Tensor, " pack"]]]
"""The loss of each network evaluation of a pass, and its health."""


@runtime_checkable
class OnDecisions(Protocol):
    """An algorithm that scores recorded decisions."""

    @property
    def num_updates(self) -> int: ...

    def pass_loss(self, actors: Actors, batch: Batch, pack: Decisions) -> PassLoss: ...


@runtime_checkable
class OnRenoised(Protocol):
    """An algorithm that restores finished samples which were noised again."""

    @property
    def num_updates(self) -> int: ...

    @property
    def num_times(self) -> int: ...

    @property
    def times(self) -> TrainingTimes: ...

    @property
    def min_time(self) -> float: ...

    def pass_loss(self, actors: Actors, batch: Batch, pack: Renoised) -> PassLoss: ...


def partition(rows: Int[Tensor, " rows"], parts: int, rng: Rng) -> list[Int[Tensor, " part"]]:
    """Split `rows` at random into at most `parts` non-empty parts whose sizes differ by at most one."""
    parts = min(parts, len(rows))
    if parts <= 1:
        return [rows] if len(rows) else []
    shuffled = rows[torch.randperm(len(rows), generator=rng.generator())]
    return [part.sort().values for part in shuffled.tensor_split(parts)]


def over_decisions(algorithm: OnDecisions, actors: Actors, batch: Batch, context: Context) -> Iterator[LossOutput]:
    """Yield the losses of its optimizer steps over the recorded decisions of the samples that teach."""
    for rows in partition(teaching(batch), algorithm.num_updates, context.rng.child("updates")):
        packs = list(actors.policy.pack(batch.rollout, rows, context.micro_batch))
        yield from shares(packs, sum(len(pack) for pack in packs), partial(algorithm.pass_loss, actors, batch))


def over_renoised(algorithm: OnRenoised, actors: Actors, batch: Batch, context: Context) -> Iterator[LossOutput]:
    """Yield the losses of its optimizer steps over the samples that teach, each noised again `num_times` times."""
    for rows in partition(teaching(batch), algorithm.num_updates, context.rng.child("updates")):
        packs = actors.policy.renoise(
            batch.rollout,
            rows,
            algorithm.num_times,
            algorithm.times,
            context.rng,
            context.micro_batch,
            min_time=algorithm.min_time,
        )
        yield from shares(packs, len(rows) * algorithm.num_times, partial(algorithm.pass_loss, actors, batch))


def teaching(batch: Batch) -> Int[Tensor, " rows"]:
    """Return the samples with an advantage, or with one at some decision."""
    return batch.advantage.reshape(len(batch.rollout), -1).any(1).nonzero()[:, 0]


def shares(packs: Iterable[Pack], total: int, loss_of: Callable[[Pack], PassLoss]) -> Iterator[LossOutput]:
    """Yield the shares of one optimizer step, whose mean loss is over `total` network evaluations."""
    done = 0
    for pack in packs:
        loss, metrics = loss_of(pack)
        done += len(pack)
        sums = {name: value.sum() for name, value in metrics.items()}
        sums["weight"] = torch.tensor(float(len(pack)))
        yield LossOutput(loss.sum() / total, sums, last=done == total)
