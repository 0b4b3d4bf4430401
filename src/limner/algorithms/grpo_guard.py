"""GRPO-Guard: Flow-GRPO with a ratio that clips alike at every step, and steps that weigh alike.

With d the difference of the means of a decision under the new and the old weights, n the noise that was drawn, D the
latent's size and h the step's length:

    rho = exp(d . n / D),   L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) / h

Flow-GRPO's ratio has mean -KL and a spread that falls with the step's std, so its clip hardly acts on bad samples, nor
on late steps; this one has mean 0 and one scale.

Source: GRPO-Guard, arXiv:2510.22319, and the per-sample form of its reimplementations (the authors' script reduces the
correction over the whole batch to one number).
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
from limner.objectives.advantage import AdvantageScale
from limner.objectives.surrogate import clipped_surrogate, scaled_clip, surrogate_metrics


@dataclass(frozen=True)
class GRPOGuard:
    """GRPO-Guard's hyper-parameters, and the algorithm.

    `clip_low` and `clip_high` are as published, for latents of `clip_elements` elements: for D elements the band is
    scaled by clip_elements / D.
    """

    clip_low: float = 2e-6
    clip_high: float = 2e-6
    clip_elements: int = 65_536
    scale: AdvantageScale = "group"
    ddof: int = 0
    epsilon: float = 1e-4
    advantage_max: float = 5.0
    num_updates: int = 2

    def __post_init__(self) -> None:
        if self.clip_low <= 0 or self.clip_high <= 0 or self.num_updates < 1:
            raise UserError(
                f"clip_low, clip_high and num_updates must be positive: {self.clip_low}, {self.clip_high} and "
                f"{self.num_updates}"
            )

    @property
    def needs(self) -> Needs:
        """The path, and a noise floor of the ratio that it clips."""
        return Needs(path=True, normalised_ratio=True)

    def ratio_clip(self, elements: int) -> tuple[float, float]:
        """Return the clip range in nats per element of a step whose std is 1; at std s it is 1 / s wider."""
        return scaled_clip(self.clip_low, self.clip_high, self.clip_elements, elements)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the group-relative advantage, 0 for invalid samples and constant groups."""
        return relative_advantage(self, scored).clamp(-self.advantage_max, self.advantage_max)

    def losses(self, actors: Actors, batch: Batch, context: Context) -> Iterator[LossOutput]:
        """Return the losses of `num_updates` optimizer steps, each over a random part of the samples that teach."""
        return over_decisions(self, actors, batch, context)

    def pass_loss(self, actors: Actors, batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        elements = actors.policy.elements()
        clip = self.ratio_clip(elements)
        distribution = actors.policy.distribution(pack, batch.rollout.condition)
        log_ratio = distribution.normalised_log_ratio(pack.old, pack.choice) / elements
        advantage = batch.decision_advantage(pack).to(log_ratio)
        length = (pack.times[:, 0] - pack.times[:, 1]).to(log_ratio)
        loss = clipped_surrogate(log_ratio, advantage, *clip) / length
        metrics = surrogate_metrics(log_ratio, advantage, *clip)
        metrics["ratio_deviation"] = log_ratio.detach().abs()
        return loss, metrics

    def old_decay(self, step: int) -> float:
        """The behaviour policy is the trained one: there is no other old policy."""
        return 0.0
