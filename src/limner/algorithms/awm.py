"""AWM: advantage-weighted matching, a policy gradient whose log-probability is a flow-matching error.

A finished sample is noised again; how well the network restores it stands for how likely it is:

    l = -w(t) |v(x_t, t) - (noise - x0)|^2 / D,   rho = exp(l - l_old),
    L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) + kl_weight |v - v_reference|^2 / D

Old and new weights are compared at the same (noise, t), so that at the first update rho is 1 exactly, and the gradient
that of A l: the policy gradient of the ELBO.

Source: Advantage Weighted Matching, arXiv:2509.25050, and its published code. Deviations: each sample draws its own
times, where the code draws one stratified set for a batch, shifted by 3 (`times` "shifted_logit_normal"); its second
penalty, towards an average of the weights, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Actors, Context
from limner.core.types import Batch, LossOutput, Needs, Renoised, Scored
from limner.diffusion.timesteps import TrainingTimes
from limner.learning.credit import relative_advantage
from limner.learning.passes import PassLoss, over_renoised
from limner.learning.penalty import reference_penalty
from limner.objectives.advantage import AdvantageScale
from limner.objectives.matching import MatchingWeight, matching_log_likelihood, velocity_mse
from limner.objectives.surrogate import clipped_surrogate, surrogate_metrics


@dataclass(frozen=True)
class AWM:
    """AWM's hyper-parameters, and the algorithm.

    `weighting` names w(t) and the form of the error (see `matching_log_likelihood`). The advantage is clipped at
    `advantage_clip` standard deviations and scaled to [-1, 1]. A clip range of 1, as published, hardly clips: rho > 2.
    """

    weighting: MatchingWeight = "ghuber"
    power: float = 0.25
    clip_low: float = 1.0
    clip_high: float = 1.0
    kl_weight: float = 1e-3
    num_times: int = 6
    times: TrainingTimes = "logit_normal"
    min_time: float = 0.0
    advantage_clip: float = 5.0
    scale: AdvantageScale = "group"
    ddof: int = 0
    epsilon: float = 1e-4
    num_updates: int = 1

    def __post_init__(self) -> None:
        if self.num_times < 1 or self.num_updates < 1:
            raise UserError(f"num_times and num_updates must be 1 or more, got {self.num_times} and {self.num_updates}")
        if not 0 < self.clip_low <= 1 or self.clip_high <= 0:
            raise UserError(f"clip_low must lie in (0, 1] and clip_high above 0: {self.clip_low}, {self.clip_high}")
        if self.kl_weight < 0 or self.advantage_clip <= 0:
            raise UserError(
                f"kl_weight {self.kl_weight} must not be negative, advantage_clip {self.advantage_clip} > 0"
            )

    @property
    def needs(self) -> Needs:
        """The weights that drew the samples, once the first update has moved away from them."""
        return Needs(old=self.num_updates > 1, reference=self.kl_weight > 0)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the group-relative advantage in [-1, 1], 0 for invalid samples and constant groups."""
        return relative_advantage(self, scored).clamp(-self.advantage_clip, self.advantage_clip) / self.advantage_clip

    def losses(self, actors: Actors, batch: Batch, context: Context) -> Iterator[LossOutput]:
        """Return the losses over the samples that teach something, each at `num_times` times."""
        return over_renoised(self, actors, batch, context)

    def old_decay(self, step: int) -> float:
        """The old policy is the trained one of the iteration's beginning."""
        return 0.0

    def ratio_clip(self, elements: int) -> None:
        """Its ratio is one of matching errors, not of what the sampler recorded."""
        return None

    def pass_loss(self, actors: Actors, batch: Batch, pack: Renoised) -> PassLoss:
        """Return the loss of each (sample, time), and its health."""

        def likelihood(velocity: Tensor) -> Tensor:
            error = velocity_mse(velocity, pack.velocity)
            return matching_log_likelihood(error, pack.t, self.weighting, self.power)

        condition = batch.rollout.condition
        velocity = actors.policy.restore(pack, condition).velocity
        with torch.no_grad():
            old = likelihood(actors.old.restore(pack, condition).velocity if self.needs.old else velocity)
        log_ratio = likelihood(velocity) - old
        advantage = batch.advantage[pack.row].to(log_ratio)
        clip = (min(self.clip_low, 1 - 1e-6), self.clip_high)
        loss = clipped_surrogate(log_ratio, advantage, *clip)
        metrics = surrogate_metrics(log_ratio, advantage, *clip)
        penalty, health = reference_penalty(self.kl_weight, velocity, actors, pack, condition)
        return loss + penalty, metrics | health
