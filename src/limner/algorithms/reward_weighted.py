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

When to use it: a fit to one's own good samples is enough, or as the baseline that others must beat; with pictures as
source (`--source Pictures`, weight "reward") it is plain fine-tuning. Rewards must differ by more than their noise once
multiplied by `temperature`.

Sources: RWR in DDPO, arXiv:2305.13301, section 4.1 and its published code (temperature multiplies; 0.2); Flow-GRPO,
arXiv:2505.05470, whose code can weigh by the reward itself; RAFT, arXiv:2304.06767.
"""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs
from limner.core.protocols import Actors, Context, ForwardProcess
from limner.core.settings import Count, NotNegative, Positive, Share, settings
from limner.core.types import Batch, PassLoss, Renoised, Scored
from limner.diffusion.timesteps import TrainingTimes
from limner.learning.penalty import with_distance
from limner.learning.restoration import matching_error, renoising_of, restored
from limner.objectives.advantage import best_weight, softmax_weight


@settings
class RewardWeighted:
    """The hyper-parameters, and the algorithm. `weight` "softmax" and "reward" are RWR, "best" is RAFT."""

    weight: Literal["softmax", "reward", "best"] = "softmax"
    temperature: Positive = 0.2
    """Of the softmax over a group's rewards."""
    kl_weight: NotNegative = 0.0
    num_times: Count = 4
    times: TrainingTimes = "logit_normal"
    min_time: Share = 0.0
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """The reference if there is a penalty, and groups to find the best of."""
        return Needs(renoise=renoising_of(self), reference=self.kl_weight > 0, group=self.weight == "best")

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

    def pass_loss(self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised) -> PassLoss:
        """Return the loss of each (sample, time), and its health."""
        new = restored(actors.policy, batch, pack)
        error = matching_error(new, pack)
        weighted = batch.decision_advantage(pack).to(error) * error
        return with_distance((weighted, {"error": error.detach()}), self.kl_weight, new, actors, batch, pack)
