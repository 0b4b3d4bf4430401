"""DiffusionNFT: learn from finished samples alone, by noising them again; any sampler, no stored path.

A sample with optimality r in [0, 1] pulls an implicit good policy towards it and pushes its mirror image, the bad one:

    v+- = v_old +- beta (v - v_old),   L = (A_max / beta) (r l(v+) + (1 - r) l(v-)) + kl_weight |v - v_reference|^2

Samples are drawn from the old policy, which follows the trained one at a distance.

When to use it: first, for a reward that scores finished samples: it asks nothing of the sampler, stores no path, and
needs no clip range. On policy (`decay` "none") and at noisy times alone (`min_time` .5) it gained most of all on scenes
at equal network evaluations; in runs twice as long at so high a learning rate an old policy that follows (`decay_rate`
.02), as the scenes recipe has it, keeps what was learned. With the published settings and learning rate it gained next
to nothing in that budget.

Source: DiffusionNFT, arXiv:2509.16117, section 3 and its published code (adaptive weights, decay schedules). Deviations
unless the preset `diffusion_nft` is taken: samples of advantage 0 are left out, and d is read at the iteration's index.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs, OldPolicy
from limner.core.protocols import Actors, Context, ForwardProcess
from limner.core.settings import Cap, Count, Natural, NotNegative, Positive, Share, settings
from limner.core.types import Batch, PassLoss, Renoised, Scored
from limner.diffusion.timesteps import TrainingTimes
from limner.learning.credit import relative_advantage
from limner.learning.penalty import with_distance
from limner.learning.restoration import renoising_of, restored_now_and_then
from limner.objectives.advantage import AdvantageScale
from limner.objectives.matching import nft_loss, nft_reward_weight, velocity_mse

NEARLY_0 = torch.finfo(torch.float32).tiny
"""An advantage that is not left out, and whose r is 1/2 exactly."""


@settings
class DiffusionNFT:
    """DiffusionNFT's hyper-parameters, and the algorithm.

    `num_times` times are drawn for each sample, from the sampler's own grid ("grid", as published, without replacement
    and without its last point) or logit-normal, none below `min_time`: where a sample is hardly noised its restoration
    says little about the prompt, and pushing it away teaches nothing. `num_updates` is the number of optimizer steps a
    rollout is split over. `decay` names the old policy's schedule: "none" is d = 0, "linear" min(decay_rate n,
    decay_max), where n counts the iterations before this one or, with `decay_by` "update", the optimizer steps up to
    its end. With `neutral`, samples of advantage 0 teach too: at r = 1/2 they hold the policy at the old one.
    """

    beta: Positive = 1.0
    """How far the good and the bad policy lie from the old one."""
    advantage_max: Cap = 5.0
    adaptive: bool = True
    """Whether each error is divided by its mean size, detached."""
    kl_weight: NotNegative = 1e-4
    num_times: Count = 4
    times: TrainingTimes = "grid"
    min_time: Share = 0.0
    decay: Literal["none", "linear"] = "linear"
    decay_rate: NotNegative = 0.001
    decay_max: Share = 0.5
    decay_by: Literal["iteration", "update"] = "iteration"
    neutral: bool = False
    scale: AdvantageScale = "group"
    ddof: Natural = 0
    epsilon: NotNegative = 1e-4
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """The old policy unless it is the trained one in every update, and the reference if there is a penalty."""
        updates = self.num_updates if self.decay_by == "update" else 0
        follows = OldPolicy(self.decay_rate, self.decay_max, updates) if self.decay == "linear" else OldPolicy()
        on_policy = self.decay == "none" and self.num_updates == 1
        return Needs(renoise=renoising_of(self), old=None if on_policy else follows, reference=self.kl_weight > 0)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the group-relative advantage, and for what is `neutral` nearly 0; 0 is left out."""
        found = relative_advantage(self, scored, context)
        return torch.where(scored.valid & (found == 0), NEARLY_0, found) if self.neutral else found

    def pass_loss(self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised) -> PassLoss:
        """Return the loss of each (sample, time), and its health."""
        new, old = restored_now_and_then(actors, self.needs, batch, pack)
        weight = nft_reward_weight(batch.decision_advantage(pack).to(new.x0), self.advantage_max)
        how = self.beta, self.advantage_max, self.adaptive
        loss = nft_loss(new.x0, old.x0, pack.x0, weight, *how, pack.region)
        health = {"loss": loss.detach()}
        if self.needs.old:
            health["old_distance"] = velocity_mse(new.velocity, old.velocity).detach()
        return with_distance((loss, health), self.kl_weight, new, actors, batch, pack)
