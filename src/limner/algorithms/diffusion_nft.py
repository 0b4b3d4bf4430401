"""DiffusionNFT: learn from finished samples alone, by noising them again; any sampler, no stored path.

A sample with optimality r in [0, 1] pulls an implicit good policy towards it and pushes its mirror image, the bad one:

    v+- = v_old +- beta (v - v_old),   L = (A_max / beta) (r l(v+) + (1 - r) l(v-)) + kl_weight |v - v_reference|^2

Samples are drawn from the old policy, which follows the trained one at a distance.
Source: DiffusionNFT, arXiv:2509.16117, section 3 and its published code (adaptive weights, decay schedules).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

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
from limner.objectives.matching import nft_loss, nft_reward_weight, velocity_mse


@dataclass(frozen=True)
class DiffusionNFT:
    """DiffusionNFT's hyper-parameters, and the algorithm.

    `num_times` times are drawn for each sample, from the sampler's own grid ("grid", as published, without replacement
    and without its last point) or logit-normal, none below `min_time`: where a sample is hardly noised its restoration
    says little about the prompt, and pushing it away teaches nothing. `decay` names the old policy's schedule
    d(iteration): "none" is 0, "linear" min(decay_rate i, decay_max). `num_updates` is the number of optimizer steps a
    rollout is split over.
    """

    beta: float = 1.0
    advantage_max: float = 5.0
    adaptive: bool = True
    kl_weight: float = 1e-4
    num_times: int = 4
    times: TrainingTimes = "grid"
    min_time: float = 0.0
    decay: Literal["none", "linear"] = "linear"
    decay_rate: float = 0.001
    decay_max: float = 0.5
    scale: AdvantageScale = "group"
    ddof: int = 0
    epsilon: float = 1e-4
    num_updates: int = 1

    def __post_init__(self) -> None:
        if self.beta <= 0 or self.advantage_max <= 0:
            raise UserError(f"beta and advantage_max must be positive, got {self.beta} and {self.advantage_max}")
        if self.num_times < 1 or self.num_updates < 1:
            raise UserError(f"num_times and num_updates must be 1 or more, got {self.num_times} and {self.num_updates}")
        if not 0 <= self.decay_max < 1:
            raise UserError(f"decay_max must lie in [0, 1), got {self.decay_max}")

    @property
    def on_policy(self) -> bool:
        """Whether the old policy equals the trained one in every update: one pass then serves both."""
        return self.decay == "none" and self.num_updates == 1

    @property
    def needs(self) -> Needs:
        """The old policy unless it is the trained one, and the reference if there is a penalty."""
        return Needs(old=not self.on_policy, reference=self.kl_weight > 0)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the group-relative advantage, 0 for invalid samples and constant groups."""
        return relative_advantage(self, scored)

    def losses(self, actors: Actors, batch: Batch, context: Context) -> Iterator[LossOutput]:
        """Return the losses over the samples that teach something, each at `num_times` times."""
        return over_renoised(self, actors, batch, context)

    def old_decay(self, step: int) -> float:
        """Return d of old <- d old + (1 - d) policy after iteration `step`."""
        return 0.0 if self.decay == "none" else min(self.decay_rate * step, self.decay_max)

    def ratio_clip(self, elements: int) -> None:
        """It uses no ratio."""
        return None

    def pass_loss(self, actors: Actors, batch: Batch, pack: Renoised) -> PassLoss:
        """Return the loss of each (sample, time), and its health."""
        condition = batch.rollout.condition
        new = actors.policy.restore(pack, condition)
        with torch.no_grad():
            old = new if self.on_policy else actors.old.restore(pack, condition)
        weight = nft_reward_weight(batch.advantage[pack.row].to(new.x0), self.advantage_max)
        loss = nft_loss(
            new.x0, old.x0, pack.x0, weight, beta=self.beta, advantage_max=self.advantage_max, adaptive=self.adaptive
        )
        metrics = {"loss": loss.detach()}
        if not self.on_policy:
            metrics["old_distance"] = velocity_mse(new.velocity, old.velocity).detach()
        penalty, health = reference_penalty(self.kl_weight, new.velocity, actors, pack, condition)
        return loss + penalty, metrics | health
