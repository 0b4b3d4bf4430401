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

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs, OldPolicy, Renoising
from limner.core.protocols import Actors, Context, ForwardProcess
from limner.core.settings import Count, Natural, NotNegative, Positive, Range, Share, settings
from limner.core.types import Batch, PassLoss, Renoised, Scored
from limner.diffusion.timesteps import TrainingTimes
from limner.learning.credit import relative_advantage
from limner.learning.penalty import reference_penalty
from limner.objectives.advantage import AdvantageScale
from limner.objectives.matching import MatchingWeight, matching_log_likelihood, velocity_mse
from limner.objectives.surrogate import clipped_surrogate, surrogate_metrics


@settings
class AWM:
    """AWM's hyper-parameters, and the algorithm.

    `weighting` names w(t) and the form of the error (see `matching_log_likelihood`). The advantage is clipped at
    `advantage_clip` standard deviations and scaled to [-1, 1]. A clip range of 1, as published, hardly clips: rho > 2.
    """

    weighting: MatchingWeight = "ghuber"
    power: Positive = 0.25
    clip_low: Annotated[float, Range(above=0, most=1)] = 1.0
    clip_high: Positive = 1.0
    kl_weight: NotNegative = 1e-3
    num_times: Count = 6
    times: TrainingTimes = "logit_normal"
    min_time: Share = 0.0
    advantage_clip: Positive = 5.0
    scale: AdvantageScale = "group"
    ddof: Natural = 0
    epsilon: NotNegative = 1e-4
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """The weights that drew the samples, once the first update has moved away, and the reference for a penalty."""
        return Needs(
            renoise=Renoising(self.num_times, self.times, self.min_time),
            old=OldPolicy() if self.num_updates > 1 else None,
            reference=self.kl_weight > 0,
        )

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the group-relative advantage in [-1, 1], 0 for invalid samples and constant groups."""
        return relative_advantage(self, scored).clamp(-self.advantage_clip, self.advantage_clip) / self.advantage_clip

    def pass_loss(self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised) -> PassLoss:
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
        health = surrogate_metrics(log_ratio, advantage, *clip)
        penalty, distance = reference_penalty(self.kl_weight, velocity, actors, batch, pack)
        return loss + penalty, health | distance
