"""DGPO: a preference of whole groups, by how much likelier their better half has become than under the reference.

The samples of a group are noised again with one (t, noise) for all. With m the matching error of a sample, m_ref that
of the reference, A the group-relative advantage and G the size of the group,

    w = sigmoid(beta sum_i A_i (m_i - m_ref_i) / G),        L = mean over samples and times of w A_i m_i

As better samples (A > 0) come to be matched better than by the reference, and worse ones worse, the sum falls and w
with it: a group that is already ordered as its rewards are stops teaching. w has no gradient.

Source: DGPO in the form of Flow-Factory's published code (`dgpo.py`), without its clip of the error's ratio. The size
of beta is ours: errors are means over the latent, and differ by some hundredths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Actors, Context
from limner.core.types import Batch, LossOutput, Needs, Renoised, Scored
from limner.diffusion.timesteps import TrainingTimes
from limner.learning.credit import relative_advantage
from limner.learning.passes import PassLoss, partition, shares, teaching
from limner.objectives.advantage import AdvantageScale
from limner.objectives.matching import velocity_mse


@dataclass(frozen=True)
class DGPO:
    """DGPO's hyper-parameters, and the algorithm. It costs three forward passes and one backward a (sample, time)."""

    beta: float = 100.0
    num_times: int = 4
    times: TrainingTimes = "logit_normal"
    min_time: float = 0.0
    scale: AdvantageScale = "group"
    ddof: int = 0
    epsilon: float = 1e-4
    num_updates: int = 1

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise UserError(f"beta must be positive, got {self.beta}")
        if self.num_times < 1 or self.num_updates < 1:
            raise UserError(f"num_times and num_updates must be 1 or more, got {self.num_times} and {self.num_updates}")

    @property
    def needs(self) -> Needs:
        """The reference."""
        return Needs(reference=True)

    def ratio_clip(self, elements: int) -> None:
        """It uses no ratio."""
        return None

    def old_decay(self, step: int) -> float:
        """There is no old policy."""
        return 0.0

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the group-relative advantage, 0 for invalid samples and constant groups."""
        return relative_advantage(self, scored)

    def losses(self, actors: Actors, batch: Batch, context: Context) -> Iterator[LossOutput]:
        """Return the losses of `num_updates` optimizer steps, each over a random part of the groups that teach."""
        useful, group = teaching(batch), batch.rollout.group
        for part in partition(group[useful].unique(), self.num_updates, context.rng.child("updates")):
            rows = useful[torch.isin(group[useful], part)]
            again = partial(
                actors.policy.renoise,
                batch.rollout,
                rows,
                self.num_times,
                self.times,
                context.rng,
                context.micro_batch,
                min_time=self.min_time,
                shared=True,
            )
            weight = self._weights(actors, batch, part, again())
            yield from shares(again(), len(rows) * self.num_times, partial(self.pass_loss, actors, batch, weight))

    def pass_loss(self, actors: Actors, batch: Batch, weight: Float[Tensor, "batch times"], pack: Renoised) -> PassLoss:
        """Return the loss of each (sample, time), and its health."""
        error = velocity_mse(actors.policy.restore(pack, batch.rollout.condition).velocity, pack.velocity)
        w = weight[pack.row, pack.column].to(error)
        return w * batch.advantage[pack.row].to(error) * error, {"error": error.detach(), "group_weight": w}

    def _weights(
        self, actors: Actors, batch: Batch, groups: Int[Tensor, " groups"], packs: Iterator[Renoised]
    ) -> Float[Tensor, "batch times"]:
        """Return w of each (sample, time): equal within a group."""
        rollout = batch.rollout
        place = torch.searchsorted(groups, rollout.group).clamp(max=len(groups) - 1)
        size = torch.zeros(len(groups)).index_add(0, place, (groups[place] == rollout.group).float())
        ordered = torch.zeros(len(groups), self.num_times)
        with torch.no_grad():
            for pack in packs:
                new, reference = (
                    velocity_mse(actor.restore(pack, rollout.condition).velocity, pack.velocity)
                    for actor in (actors.policy, actors.reference)
                )
                change = (batch.advantage[pack.row].to(new) * (new - reference)).float().cpu()
                ordered.index_put_((place[pack.row], pack.column), change, accumulate=True)
        return torch.sigmoid(self.beta * ordered / size[:, None])[place]
