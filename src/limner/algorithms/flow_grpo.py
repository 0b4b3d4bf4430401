"""Flow-GRPO: a clipped policy gradient over the stochastic denoising steps, with group-relative advantages.

For each decision (x_t -> x_s) of each sample, with r the log-ratio per latent element and A the sample's advantage,

    rho = exp(r),   L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) + kl_weight KL(policy || reference) / D

With `noise_weight` the loss of a decision is multiplied by its std over the mean std of all, which cancels the 1 / std
in the gradient of the log-probability (TempFlow-GRPO, arXiv:2508.04324; its constant c is that mean's inverse).

When to use it: a published recipe is to be followed, or the penalty must be the exact KL of the decisions. It needs a
stochastic sampler whose steps are recorded, and costs one forward and backward a decision: a window of a few early
steps (`sampler.window`) is cheaper, and it is there that samples of one prompt come to differ.

Source: Flow-GRPO, arXiv:2505.05470, eq. 5 to 8; the per-element log-ratio is its published code's, and DDPO's
(arXiv:2305.13301). The KL is the exact one of the step; with `kl_by_time` it is multiplied by h = t - s, which is what
the code's |difference of means|^2 / (2 S^2) amounts to.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs, RatioKind
from limner.core.protocols import Actors, Context, DecisionProcess
from limner.core.settings import Cap, Count, Natural, NotNegative, Share, settings
from limner.core.transfer import sent
from limner.core.types import Batch, Decisions, PassLoss, Scored
from limner.learning.credit import relative_advantage
from limner.learning.penalty import with_divergence
from limner.learning.ratio import clip_of, rescored
from limner.objectives.advantage import TreeScale


@settings
class FlowGRPO:
    """Flow-GRPO's hyper-parameters, and the algorithm.

    `clip_low` and `clip_high` are in nats per latent element, as published for latents of `clip_elements` elements:
    for a latent of D elements the band is scaled by clip_elements / D, which keeps it in nats.
    `scale` names the standard deviation that divides the advantage; `ddof` is its degrees of freedom. "depth" compares
    the decisions of each depth of a tree of samples (BranchGRPO, arXiv:2509.06040; see `sampler.splits`).
    `trim` leaves so large a share of each group, the worst, out of mean and standard deviation (MixGRPO's code).
    `kl_by_time` weighs the penalty of a decision by its length on the time axis, as the published code does; `kl` "k3"
    estimates it from the choice that was made. `ratio` "distance" is that of the squared distance alone (Flow-CPS).
    `num_updates` is the number of optimizer steps a rollout is split over.
    """

    clip_low: Cap = 1e-4
    clip_high: Cap = 1e-4
    clip_elements: Count = 65_536
    kl_weight: NotNegative = 0.0
    kl: Literal["exact", "k3"] = "exact"
    kl_by_time: bool = False
    ratio: RatioKind = "log_ratio"
    scale: TreeScale = "group"
    ddof: Natural = 0
    epsilon: NotNegative = 1e-4
    advantage_max: Cap = 5.0
    trim: Share = 0.0
    num_updates: Count = 2
    noise_weight: bool = False
    """Whether the loss of a decision is weighted by its noise (TempFlow-GRPO)."""

    @property
    def needs(self) -> Needs:
        """The path, the reference if there is a penalty, a tree if its depths are compared; the mean std of all."""
        clip, weighted, tree = clip_of(self, self.ratio), self.noise_weight, self.scale == "depth"
        return Needs(path=True, reference=self.kl_weight > 0, clip=clip, tree=tree, spread=weighted, alone=weighted)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"] | Float[Tensor, "batch steps"]:
        """Return the group-relative advantage, of each sample or, with scale "depth", of each decision."""
        return relative_advantage(self, scored, context, self.trim).clamp(-self.advantage_max, self.advantage_max)

    def pass_loss(self, actors: Actors[DecisionProcess], batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        again = rescored(actors, batch, pack, self.ratio)
        loss, health = again.clipped(clip_of(self, self.ratio))
        if self.noise_weight:
            std = batch.rollout.path.old.std
            made = sent(batch.rollout.path.mask, std.device)
            loss = loss * (pack.old.std / (std.where(made, 0).sum() / made.sum()))
        moved = again.distribution, actors, batch, pack
        return with_divergence((loss, health), self.kl_weight, *moved, self.kl_by_time, self.kl == "k3")
