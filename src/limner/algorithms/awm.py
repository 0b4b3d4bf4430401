"""AWM: advantage-weighted matching, a policy gradient whose log-probability is a flow-matching error.

A finished sample is noised again; how well the network restores it stands for how likely it is:

    l = -w(t) |v(x_t, t) - (noise - x0)|^2 / D,   rho = exp(l - l_old),
    L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) + kl_weight |v - v_reference|^2 / D

Old and new weights are compared at the same (noise, t), so that at the first update rho is 1 exactly, and the gradient
that of A l: the policy gradient of the ELBO.

When to use it: the sampler is the plain ODE, or any other, and no path can be kept. It gained most at noisy times alone
(`min_time` .5). It costs one forward and backward a (sample, time), and a forward more with a penalty or several
updates.

Source: Advantage Weighted Matching, arXiv:2509.25050, and its published code. Deviations: each sample draws its own
times, where the code draws one stratified set for a batch, shifted by 3 (`times` "shifted_logit_normal"); its second
penalty, towards an average of the weights, is left out.
"""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs, OldPolicy
from limner.core.protocols import Actors, Context, ForwardProcess
from limner.core.settings import Cap, Count, Natural, NotNegative, Positive, Range, Share, settings
from limner.core.types import Batch, PassLoss, Renoised, Scored
from limner.diffusion.prediction import Estimate
from limner.diffusion.timesteps import TrainingTimes
from limner.learning.credit import relative_advantage
from limner.learning.penalty import with_distance
from limner.learning.restoration import matching_error, renoising_of, restored_now_and_then
from limner.objectives.advantage import AdvantageScale
from limner.objectives.matching import MatchingWeight, matching_log_likelihood
from limner.objectives.surrogate import clipped_surrogate, surrogate_metrics


@settings
class AWM:
    """AWM's hyper-parameters, and the algorithm.

    `weighting` names w(t) and the form of the error (see `matching_log_likelihood`). The advantage is clipped at
    `advantage_clip` standard deviations and scaled to [-1, 1]. A clip range of 1, as published, hardly clips: rho > 2.
    `kl_by_noise` weighs the penalty by `elbo_weight`, as an option of the published code does.
    """

    weighting: MatchingWeight = "ghuber"
    power: Positive = 0.25
    """p of the error's form "ghuber"."""
    clip_low: Annotated[float, Range(above=0, most=1)] = 1.0
    clip_high: Cap = 1.0
    kl_weight: NotNegative = 1e-3
    kl_by_noise: bool = False
    num_times: Count = 6
    times: TrainingTimes = "logit_normal"
    min_time: Share = 0.0
    advantage_clip: Cap = 5.0
    scale: AdvantageScale = "group"
    ddof: Natural = 0
    epsilon: NotNegative = 1e-4
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """The weights that drew the samples, once the first update has moved away, and the reference for a penalty."""
        old = OldPolicy() if self.num_updates > 1 else None
        return Needs(renoise=renoising_of(self), old=old, reference=self.kl_weight > 0)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the group-relative advantage in [-1, 1], 0 for invalid samples and constant groups."""
        most = self.advantage_clip
        return relative_advantage(self, scored, context).clamp(-most, most) / most

    def pass_loss(self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised) -> PassLoss:
        """Return the loss of each (sample, time), and its health."""

        def likelihood(estimate: Estimate) -> Tensor:
            return matching_log_likelihood(matching_error(estimate, pack), pack.t, self.weighting, self.power)

        new, old = restored_now_and_then(actors, self.needs, batch, pack)
        log_ratio = likelihood(new) - likelihood(old).detach()
        advantage = batch.decision_advantage(pack).to(log_ratio)
        clip = (min(self.clip_low, 1 - 1e-6), self.clip_high)
        loss = clipped_surrogate(log_ratio, advantage, *clip), surrogate_metrics(log_ratio, advantage, *clip)
        return with_distance(loss, self.kl_weight, new, actors, batch, pack, self.kl_by_noise)
