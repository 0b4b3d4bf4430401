"""Splitting the samples of a rollout over optimizer steps, and each step over passes of the network.

What an algorithm `needs` decides here, and nowhere else, what its loss is on: recorded decisions, finished samples that
are noised again, or whole groups of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.needs import Renoising
from limner.core.protocols import (
    Actors,
    Algorithm,
    Context,
    DecisionProcess,
    ForwardProcess,
    OnDecisions,
    OnGroups,
    OnRenoised,
    Policy,
)
from limner.core.rng import Rng
from limner.core.types import Batch, LossOutput, PassLoss, Renoised

Packs = Callable[[], Iterator[Any]]
"""Begins to go through the packs of an optimizer step: `Decisions`, or `Renoised`."""


@dataclass(frozen=True)
class OptimizerStep:
    """A part of the samples that teach: `size` decisions, or renoised samples, in packs, and the loss of a pack."""

    size: int
    packs: Packs
    loss_of: Callable[[Any], PassLoss]

    def shares(self, total: int) -> Iterator[LossOutput]:
        """Yield pack by pack the shares of the mean loss over `total` decisions, those of all processes together."""
        for pack in self.packs():
            loss, health = self.loss_of(pack)
            sums = {name: value.detach().sum() for name, value in health.items()}
            yield LossOutput(loss.sum() / total, sums | {"weight": torch.tensor(float(len(pack)))})


NOTHING = OptimizerStep(0, lambda: iter(()), lambda pack: (torch.zeros(0), {}))
"""The part of a step of a process that has no sample in it."""


def optimizer_steps(
    algorithm: Algorithm, actors: Actors[Policy], batch: Batch, context: Context
) -> Iterator[OptimizerStep]:
    """Yield the optimizer steps of a rollout: at most `num_updates`, each over a random part of what teaches.

    The parts are those of all samples of the team, so every process takes part in every step, with its own share of it.
    """
    how, rows = algorithm.needs.renoise, teaching(batch)
    unit = (batch.rollout.group if how is not None and how.by_group else batch.rollout.id)[rows]
    units = context.team.gather(unit).unique()
    for part in partition(units, algorithm.num_updates, context.rng.child("updates")):
        chosen = rows[torch.isin(unit, part)]
        if not len(chosen):
            yield NOTHING
        elif how is None:
            deciding = cast(Actors[DecisionProcess], actors)
            yield _over_decisions(cast(OnDecisions, algorithm), deciding, batch, chosen, context)
        else:
            restoring = cast(Actors[ForwardProcess], actors)
            packs = partial(restoring.policy.renoise, batch.rollout, chosen, how, context.rng, context.micro_batch)
            if how.by_group:
                loss_of = _given_groups(cast(OnGroups, algorithm), restoring, batch, packs, how)
            else:
                loss_of = partial(cast(OnRenoised, algorithm).pass_loss, restoring, batch)
            yield OptimizerStep(len(chosen) * how.num_times, packs, loss_of)


def require(algorithm: Algorithm, policy: Policy, anchored: bool = False, processes: int = 1) -> None:
    """Raise UserError unless the policy can do what the algorithm's loss is on, and, `anchored`, a data anchor's.

    Also for an algorithm that `processes` cannot share.
    """
    needs, name, kind = algorithm.needs, type(algorithm).__name__, type(policy).__name__
    if needs.alone and processes > 1:
        raise UserError(f"{name} learns from the states of all samples at once: run it in one process, not {processes}")
    if needs.path and not isinstance(policy, DecisionProcess):
        raise UserError(
            f"{name} scores the decisions of a sampler, but those of {kind} cannot be scored: take an algorithm that "
            "needs no path, DiffusionNFT or AWM, or another sampler"
        )
    if isinstance(policy, ForwardProcess):
        return
    if needs.renoise is not None:
        raise UserError(
            f"{name} noises finished samples again, which {kind} cannot do: take an algorithm that scores decisions, "
            "FlowGRPO or DDPO, or another sampler"
        )
    if anchored:
        raise UserError(
            f"anchor.weight noises data again, which {kind} cannot do: set it to 0, or take another sampler"
        )


def teaching(batch: Batch) -> Int[Tensor, " rows"]:
    """Return the samples with an advantage, or with one at some decision."""
    return batch.advantage.reshape(len(batch.rollout), -1).any(1).nonzero()[:, 0]


def partition(units: Int[Tensor, " units"], parts: int, rng: Rng) -> list[Int[Tensor, " part"]]:
    """Split `units` at random into at most `parts` non-empty parts whose sizes differ by at most one."""
    parts = min(parts, len(units))
    if parts <= 1:
        return [units] if len(units) else []
    shuffled = units[torch.randperm(len(units), generator=rng.generator())]
    return [part.sort().values for part in shuffled.tensor_split(parts)]


def _over_decisions(
    algorithm: OnDecisions, actors: Actors[DecisionProcess], batch: Batch, rows: Int[Tensor, " rows"], context: Context
) -> OptimizerStep:
    packs = partial(actors.policy.pack, batch.rollout, rows, context.micro_batch)
    return OptimizerStep(int(batch.rollout.path.mask[rows].sum()), packs, partial(algorithm.pass_loss, actors, batch))


def _given_groups(
    algorithm: OnGroups, actors: Actors[ForwardProcess], batch: Batch, packs: Packs, how: Renoising
) -> Callable[[Renoised], PassLoss]:
    """Measure whole groups in a pass of their own; return the loss that is given the means."""
    means = _group_means(algorithm, actors, batch, packs(), how)

    def loss_of(pack: Renoised) -> PassLoss:
        return algorithm.pass_loss(actors, batch, pack, means[pack.row, pack.column].to(pack.x0))

    return loss_of


def _group_means(
    algorithm: OnGroups, actors: Actors[ForwardProcess], batch: Batch, packs: Iterator[Renoised], how: Renoising
) -> Float[Tensor, "batch times"]:
    """Return of each (sample, time) the mean over its group of what is measured; what does not teach counts as 0."""
    _, place = batch.rollout.group.unique(return_inverse=True)
    size = place.bincount()
    sums = torch.zeros(len(size), how.num_times)
    with torch.no_grad():
        for pack in packs:
            measured = algorithm.measure(actors, batch, pack).float().cpu()
            sums.index_put_((place[pack.row], pack.column), measured, accumulate=True)
    return (sums / size[:, None])[place]
