"""Flow-GRPO: a clipped policy gradient over the stochastic denoising steps, with group-relative advantages.

For each decision (x_t -> x_s) of each sample, with r the log-ratio per latent element and A the sample's advantage,

    rho = exp(r),   L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) + kl_weight KL(policy || reference) / D

With `noise_weight` the loss of a decision is multiplied by its std over the mean std of all, which cancels the 1 / std
in the gradient of the log-probability (TempFlow-GRPO, arXiv:2508.04324; its constant c is that mean's inverse).

Source: Flow-GRPO, arXiv:2505.05470, eq. 5 to 8; the per-element log-ratio is its published code's, and DDPO's
(arXiv:2305.13301). The KL is the exact one of the step; with `kl_by_time` it is multiplied by h = t - s, which is what
the code's |difference of means|^2 / (2 S^2) amounts to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Actors, Context
from limner.core.types import Batch, Decisions, LossOutput, Needs, Scored
from limner.learning.credit import relative_advantage
from limner.learning.passes import PassLoss, over_decisions
from limner.learning.penalty import decision_penalty
from limner.objectives.advantage import TreeScale
from limner.objectives.surrogate import clipped_surrogate, scaled_clip, surrogate_metrics


@dataclass(frozen=True)
class FlowGRPO:
    """Flow-GRPO's hyper-parameters, and the algorithm.

    `clip_low` and `clip_high` are in nats per latent element, as published for latents of `clip_elements` elements:
    for a latent of D elements the band is scaled by clip_elements / D, which keeps it in nats.
    `scale` names the standard deviation that divides the advantage; `ddof` is its degrees of freedom. "depth" compares
    the decisions of each depth of a tree of samples (BranchGRPO, arXiv:2509.06040; see `sampler.splits`).
    `trim` leaves so large a share of each group, the worst, out of mean and standard deviation (MixGRPO's code).
    `kl_by_time` weighs the penalty of a decision by its length on the time axis, as the published code does.
    `num_updates` is the number of optimizer steps a rollout is split over.
    """

    clip_low: float = 1e-4
    clip_high: float = 1e-4
    clip_elements: int = 65_536
    kl_weight: float = 0.0
    kl_by_time: bool = False
    scale: TreeScale = "group"
    ddof: int = 0
    epsilon: float = 1e-4
    advantage_max: float = 5.0
    trim: float = 0.0
    num_updates: int = 2
    noise_weight: bool = False

    def __post_init__(self) -> None:
        if self.clip_low <= 0 or self.clip_high <= 0:
            raise UserError(f"clip_low and clip_high must be positive, got {self.clip_low} and {self.clip_high}")
        if self.num_updates < 1:
            raise UserError(f"num_updates must be at least 1, got {self.num_updates}")
        if not 0 <= self.trim < 1:
            raise UserError(f"trim must lie in [0, 1), got {self.trim}")
        if self.kl_weight < 0:
            raise UserError(f"kl_weight must not be negative, got {self.kl_weight}")

    @property
    def needs(self) -> Needs:
        """The path, the reference if there is a penalty, and a tree if its depths are compared."""
        return Needs(path=True, reference=self.kl_weight > 0, tree=self.scale == "depth")

    def ratio_clip(self, elements: int) -> tuple[float, float]:
        """Return the clip range in nats per element for latents of `elements` elements."""
        return scaled_clip(self.clip_low, self.clip_high, self.clip_elements, elements)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"] | Float[Tensor, "batch steps"]:
        """Return the group-relative advantage, of each sample or, with scale "depth", of each decision."""
        return relative_advantage(self, scored, self.trim).clamp(-self.advantage_max, self.advantage_max)

    def losses(self, actors: Actors, batch: Batch, context: Context) -> Iterator[LossOutput]:
        """Return the losses of `num_updates` optimizer steps, each over a random part of the samples that teach."""
        return over_decisions(self, actors, batch, context)

    def pass_loss(self, actors: Actors, batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        elements = actors.policy.elements()
        clip = self.ratio_clip(elements)
        distribution = actors.policy.distribution(pack, batch.rollout.condition)
        log_ratio = distribution.log_ratio(pack.old, pack.choice) / elements
        advantage = batch.decision_advantage(pack).to(log_ratio)
        loss = clipped_surrogate(log_ratio, advantage, *clip)
        if self.noise_weight:
            path = batch.rollout.path
            loss = loss * (pack.old.std / path.old.std[path.mask].mean())
        metrics = surrogate_metrics(log_ratio, advantage, *clip)
        metrics["ratio_deviation"] = log_ratio.detach().abs()
        condition = batch.rollout.condition
        penalty, health = decision_penalty(self.kl_weight, distribution, actors, pack, condition, self.kl_by_time)
        return loss + penalty, metrics | health

    def old_decay(self, step: int) -> float:
        """The behaviour policy is the trained one: there is no other old policy."""
        return 0.0
