"""Splitting the samples of a rollout over optimizer steps, and each step over passes of the network.

What an algorithm `needs` decides here, and nowhere else, what its loss is on: recorded decisions, finished samples that
are noised again, whole groups of these, or pairs.

The loss of an optimizer step is a mean. Over recorded decisions there are three, for l_ij of decision j of the T_i that
sample i has, T at most, N samples in the step that teach, and B of all that were drawn, the step's share of them:

    "decisions"  sum_ij l_ij / sum_i T_i          DAPO, and T2I-R1's code: the mean over the batch's tokens
    "samples"    1/N sum_i 1/T_i sum_j l_ij       GRPO: the mean of sequences' means
    "constant"   sum_ij l_ij / (B T)              Dr.GRPO: a number that no sample changes

They differ where samples have different numbers of decisions, and "constant" also where groups teach nothing, whose
samples it counts: with them the step becomes smaller, and not the others' share in it larger.

Source: GRPO, arXiv:2402.03300, eq. 3; DAPO, arXiv:2503.14476, section 3.3; Dr.GRPO, arXiv:2503.20783, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
    OnPairs,
    OnRenoised,
    Policy,
    Reparameterised,
)
from limner.core.rng import Rng
from limner.core.team import Team
from limner.core.transfer import sent
from limner.core.tree import concatenate
from limner.core.types import Batch, Decisions, LossOutput, Pairs, PassLoss, Renoised, Rollout

Packs = Callable[[], Iterator[Any]]
"""Begins to go through the packs of an optimizer step: `Decisions`, `Renoised`, or `Pairs` of these."""


@dataclass(frozen=True)
class OptimizerStep:
    """A part of the samples that teach: `size` decisions, or renoised samples, in packs, and the loss of a pack.

    `mass` is what the sum of these losses is divided by to be their mean.
    """

    size: int
    packs: Packs
    loss_of: Callable[[Any], PassLoss]
    mass: float

    def shares(self, total: float) -> Iterator[LossOutput]:
        """Yield pack by pack the shares of the mean loss; `total` is the mass of all processes together."""
        for pack in self.packs():
            loss, health = self.loss_of(pack)
            if loss.shape != (len(pack),):
                raise UserError(
                    f"pass_loss gave a loss of shape {tuple(loss.shape)} for {len(pack)} decisions or samples, and it "
                    "is one number each; under a focus the advantage is one over the latent: see learning.ratio"
                )
            sums = {name: value.detach().sum() for name, value in health.items()}
            yield LossOutput(loss.sum() / total, sums | {"weight": torch.tensor(float(len(pack)))})


def _nothing(mass: float = 0) -> OptimizerStep:
    """Return the part of a step of a process that has no sample in it."""
    return OptimizerStep(0, lambda: iter(()), lambda pack: (torch.zeros(0), {}), mass)


def optimizer_steps(
    algorithm: Algorithm, actors: Actors[Policy], batch: Batch, context: Context
) -> Iterator[OptimizerStep]:
    """Yield the optimizer steps of a rollout: at most `num_updates`, each over a random part of what teaches.

    The parts are those of all samples of the team, so every process takes part in every step, with its own share of it.
    """
    needs, rows = algorithm.needs, teaching(batch)
    whole = needs.pairs or (needs.renoise is not None and needs.renoise.by_group)
    unit = (batch.rollout.group if whole else batch.rollout.id)[rows]
    units = context.team.gather(unit).unique()
    parts = partition(units, algorithm.num_updates, context.rng.child("updates"))
    for part in parts:
        drawn = len(batch.rollout) / len(parts)
        yield _step(algorithm, actors, batch, rows[torch.isin(unit, part)], context, drawn)


def _step(
    algorithm: Algorithm,
    actors: Actors[Policy],
    batch: Batch,
    rows: Int[Tensor, " rows"],
    context: Context,
    drawn: float,
) -> OptimizerStep:
    """Return an optimizer step over the samples `rows`, in the form that the algorithm's needs call for.

    `drawn` is the step's share of all samples of this process, those that teach nothing too.
    """
    how = algorithm.needs.renoise
    if algorithm.needs.pairs:
        return _over_pairs(cast(OnPairs, algorithm), actors, batch, rows, context)
    if how is not None and how.by_all:  # a member without samples takes part in the mean
        return _over_renoised(algorithm, cast(Actors[ForwardProcess], actors), batch, rows, context, how)
    if how is None:
        deciding = cast(Actors[DecisionProcess], actors)
        return _over_decisions(cast(OnDecisions, algorithm), deciding, batch, rows, context, drawn)
    if not len(rows):
        return _nothing()
    return _over_renoised(algorithm, cast(Actors[ForwardProcess], actors), batch, rows, context, how)


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
    if needs.outcome and not isinstance(policy, Reparameterised):
        raise UserError(
            f"{name} follows a gradient through the one decision that leads to a sample, and {kind} takes many, or "
            "none with a gradient: take FlowGRPO or DDPO, or, for a generator of one step, sampler OneStepSampler"
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
    algorithm: OnDecisions,
    actors: Actors[DecisionProcess],
    batch: Batch,
    rows: Int[Tensor, " rows"],
    context: Context,
    drawn: float,
) -> OptimizerStep:
    counts = batch.rollout.path.mask.sum(1)
    size, how = int(counts[rows].sum()), context.loss_mean
    constant = drawn * batch.rollout.path.mask.shape[1] if how == "constant" else 0
    if not len(rows):
        return _nothing(constant)

    def loss_of(pack: Decisions) -> PassLoss:
        loss, health = algorithm.pass_loss(actors, batch, pack)
        if how == "samples":
            loss = loss / sent(counts[pack.row], loss.device)
        return loss if batch.weight is None else loss * sent(batch.weight[pack.row], loss.device).to(loss), health

    packs = partial(actors.policy.pack, batch.rollout, rows, context.micro_batch)
    mass = {"decisions": size, "samples": int(counts[rows].count_nonzero()), "constant": constant}[how]
    return OptimizerStep(size, packs, loss_of, mass)


def _over_renoised(
    algorithm: Algorithm,
    actors: Actors[ForwardProcess],
    batch: Batch,
    rows: Int[Tensor, " rows"],
    context: Context,
    how: Renoising,
) -> OptimizerStep:
    def packs() -> Iterator[Renoised]:
        if len(rows):
            yield from actors.policy.renoise(batch.rollout, rows, how, context.rng, context.micro_batch)

    loss_of: Callable[[Renoised], PassLoss] = partial(cast(OnRenoised, algorithm).pass_loss, actors, batch)
    if how.by_group or how.by_all:
        loss_of = _given_means(cast(OnGroups, algorithm), actors, batch, packs, how, context.team)
    size = len(rows) * how.num_times
    return OptimizerStep(size, packs, loss_of, size)


def _over_pairs(
    algorithm: OnPairs, actors: Actors[Policy], batch: Batch, rows: Int[Tensor, " rows"], context: Context
) -> OptimizerStep:
    """Go through the two samples of each pair side by side, in half as many pairs a pass as there are evaluations."""
    pairs, size, how = paired(batch, rows), max(1, context.micro_batch // 2), algorithm.needs.renoise
    if not len(pairs):
        return _nothing()

    def packs() -> Iterator[Pairs[Any]]:
        better, worse = (side(actors.policy, batch.rollout, chosen, how, context.rng, size) for chosen in pairs.T)
        for good, bad in zip(better, worse, strict=True):
            yield Pairs(beside(good, bad), batch.decision_advantage(good) - batch.decision_advantage(bad))

    num = how.num_times * len(pairs) if how is not None else int(batch.rollout.path.mask[pairs[:, 0]].sum())
    return OptimizerStep(num, packs, partial(algorithm.pass_loss, actors, batch), num)


def side(
    policy: Policy, rollout: Rollout, rows: Int[Tensor, " rows"], how: Renoising | None, rng: Rng, size: int
) -> Iterator[Any]:
    """Yield the packs of one side of pairs: noised samples, or decisions."""
    if how is None:
        return cast(DecisionProcess, policy).pack(rollout, rows, size)
    return cast(ForwardProcess, policy).renoise(rollout, rows, how, rng, size)


def beside(better: Any, worse: Any) -> Any:
    """Return two packs of one kind as one; decisions find their evaluations where they then are."""
    if isinstance(worse, Decisions):
        worse = replace(worse, place=worse.place + better.evaluations)
    return concatenate([better, worse])


def paired(batch: Batch, rows: Int[Tensor, " rows"]) -> Int[Tensor, "pairs 2"]:
    """Return the pairs of samples `rows`, better and worse: of each group its best with its worst, and so on inwards.

    Those whose advantage is above 0 are good, those below 0 bad; equal ones are taken by their ids.
    """
    rollout, advantage = batch.rollout, batch.advantage
    found = []
    for group in rollout.group[rows].unique():
        mine = rows[rollout.group[rows] == group]
        mine = mine[rollout.id[mine].argsort()]
        mine = mine[advantage[mine].argsort(stable=True)]
        num = min(int((advantage[mine] > 0).sum()), int((advantage[mine] < 0).sum()))
        found.append(torch.stack([mine.flip(0)[:num], mine[:num]], 1))
    return torch.cat(found) if found else rows.new_zeros(0, 2)


def _given_means(
    algorithm: OnGroups, actors: Actors[ForwardProcess], batch: Batch, packs: Packs, how: Renoising, team: Team
) -> Callable[[Renoised], PassLoss]:
    """Measure whole groups, or everything, in a pass of its own; return the loss that is given the means."""
    means = _means(algorithm, actors, batch, packs(), how, team)

    def loss_of(pack: Renoised) -> PassLoss:
        return algorithm.pass_loss(actors, batch, pack, sent(means[pack.row, pack.column], pack.x0.device).to(pack.x0))

    return loss_of


def _means(
    algorithm: OnGroups,
    actors: Actors[ForwardProcess],
    batch: Batch,
    packs: Iterator[Renoised],
    how: Renoising,
    team: Team,
) -> Float[Tensor, "batch times"]:
    """Return for each (sample, time) the mean of what is measured, over its group then or over all at all times.

    In a group what does not teach counts as 0; of all samples only those of the step count.
    """
    _, place = batch.rollout.group.unique(return_inverse=True)
    sums, count = torch.zeros(int(place.max()) + 1, how.num_times), 0
    with torch.no_grad():
        for pack in packs:
            measured = algorithm.measure(actors, batch, pack).float().cpu()
            sums.index_put_((place[pack.row], pack.column), measured, accumulate=True)
            count += len(pack)
    if how.by_all:
        total, number = team.sum(torch.tensor([float(sums.double().sum()), float(count)], dtype=torch.float64))
        return (total / number).float().expand(len(place), how.num_times)
    return (sums / place.bincount()[:, None])[place]
