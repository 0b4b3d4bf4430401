"""Reward-weighted regression and best-of-N fine-tuning: the ordinary flow-matching loss on one's own good samples.

A finished sample is noised again and restored, and counts by its reward r:

    L = mean_i w_i |v(x_t, t) - (noise - x0_i)|^2 / D + kl_weight |v - v_reference|^2 / D
    "softmax"  w_i = n softmax(temperature r)_i over the n valid samples of the iteration     (RWR)
    "reward"   w_i = r_i; a sample below 0 is pushed away                                      (RWR of Flow-GRPO's code)
    "best"     w_i = 1 where r is the largest of its group, ties included, else 0              (RAFT, ReST, best-of-N)

The mean is over the samples whose weight is not 0. No weight of the first and the last is below 0: nothing pushes bad
samples away. The first is nearly the same for all where temperature times the spread of rewards is small: then the loss
is that of all of one's own samples, and their noise has the last word. A constant group has no best, and is left out by
"best".

Sources: RWR in DDPO, arXiv:2305.13301, section 4.1 and its published code (temperature multiplies; 0.2); Flow-GRPO,
arXiv:2505.05470, whose code can weigh by the reward itself; RAFT, arXiv:2304.06767.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Actors, Context
from limner.core.types import Batch, LossOutput, Needs, Renoised, Scored
from limner.diffusion.timesteps import TrainingTimes
from limner.learning.passes import PassLoss, over_renoised
from limner.learning.penalty import reference_penalty
from limner.objectives.advantage import best_weight, softmax_weight
from limner.objectives.matching import velocity_mse


@dataclass(frozen=True)
class RewardWeighted:
    """The hyper-parameters, and the algorithm. `weight` "softmax" and "reward" are RWR, "best" is RAFT."""

    weight: Literal["softmax", "reward", "best"] = "softmax"
    temperature: float = 0.2
    kl_weight: float = 0.0
    num_times: int = 4
    times: TrainingTimes = "logit_normal"
    min_time: float = 0.0
    num_updates: int = 1

    def __post_init__(self) -> None:
        if self.num_times < 1 or self.num_updates < 1:
            raise UserError(f"num_times and num_updates must be 1 or more, got {self.num_times} and {self.num_updates}")
        if self.temperature <= 0 or self.kl_weight < 0:
            raise UserError(f"temperature must be above 0, kl_weight not below: {self.temperature}, {self.kl_weight}")

    @property
    def needs(self) -> Needs:
        """The reference if there is a penalty."""
        return Needs(reference=self.kl_weight > 0)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the weight of each sample, 0 for those that are not learned from."""
        match self.weight:
            case "softmax":
                return softmax_weight(scored.total, scored.valid, self.temperature)
            case "reward":
                return torch.where(scored.valid, scored.total, 0)
            case "best":
                return best_weight(scored.total, scored.rollout.group, scored.valid)
            case _:
                assert_never(self.weight)

    def losses(self, actors: Actors, batch: Batch, context: Context) -> Iterator[LossOutput]:
        """Return the losses over the samples that count, each at `num_times` times."""
        return over_renoised(self, actors, batch, context)

    def old_decay(self, step: int) -> float:
        """There is no old policy."""
        return 0.0

    def ratio_clip(self, elements: int) -> None:
        """It uses no ratio."""
        return None

    def pass_loss(self, actors: Actors, batch: Batch, pack: Renoised) -> PassLoss:
        """Return the loss of each (sample, time), and its health."""
        condition = batch.rollout.condition
        velocity = actors.policy.restore(pack, condition).velocity
        error = velocity_mse(velocity, pack.velocity)
        loss = batch.advantage[pack.row].to(error) * error
        penalty, health = reference_penalty(self.kl_weight, velocity, actors, pack, condition)
        return loss + penalty, {"error": error.detach()} | health
