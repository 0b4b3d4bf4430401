"""Flow-DPPO: Flow-GRPO whose trust region is an exact divergence, not a clipped ratio.

For each decision, with rho = exp(log-ratio per latent element) and KL per element between its Gaussians under the new
and the old weights,

    L = -A rho,   but 0 where KL >= limit and rho has already moved the way A asks for

A denoising step's Gaussian is known in full, so the divergence is exact and does not depend on the noise drawn, while a
ratio of one sample is a noisy sign of it.

Source: Flow-DPPO, its published code (limit 1e-5 per element at 65,536 elements).
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
from limner.objectives.surrogate import trusted_surrogate


@dataclass(frozen=True)
class FlowDPPO:
    """Flow-DPPO's hyper-parameters, and the algorithm.

    `kl_limit` is in nats per element as published for latents of `clip_elements` elements; for D elements it is scaled
    by clip_elements / D, which keeps it in nats. The advantage is not clipped.
    """

    kl_limit: float = 1e-5
    clip_elements: int = 65_536
    scale: AdvantageScale = "group"
    ddof: int = 0
    epsilon: float = 1e-4
    num_updates: int = 2

    def __post_init__(self) -> None:
        if self.kl_limit <= 0 or self.num_updates < 1:
            raise UserError(f"kl_limit and num_updates must be positive, got {self.kl_limit} and {self.num_updates}")

    @property
    def needs(self) -> Needs:
        """The path."""
        return Needs(path=True)

    def ratio_clip(self, elements: int) -> None:
        """It clips no ratio."""
        return None

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the group-relative advantage, 0 for invalid samples and constant groups."""
        return relative_advantage(self, scored)

    def losses(self, actors: Actors, batch: Batch, context: Context) -> Iterator[LossOutput]:
        """Return the losses of `num_updates` optimizer steps, each over a random part of the samples that teach."""
        return over_decisions(self, actors, batch, context)

    def pass_loss(self, actors: Actors, batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        elements = actors.policy.elements()
        limit = self.kl_limit * self.clip_elements / elements
        distribution = actors.policy.distribution(pack, batch.rollout.condition)
        log_ratio = distribution.log_ratio(pack.old, pack.choice) / elements
        divergence = distribution.kl(pack.old).detach() / elements
        advantage = batch.decision_advantage(pack).to(log_ratio)
        loss = trusted_surrogate(log_ratio, advantage, divergence, limit)
        return loss, {
            "ratio_deviation": log_ratio.detach().abs(),
            "masked": (loss.detach() == 0).to(log_ratio),
            "divergence": divergence,
        }

    def old_decay(self, step: int) -> float:
        """The behaviour policy is the trained one: there is no other old policy."""
        return 0.0
