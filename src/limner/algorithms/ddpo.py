"""DDPO: a policy gradient over the denoising steps, with the statistics of each prompt's past rewards as baseline.

For each decision of each sample, with r the log-ratio per latent element and A = (reward - mean) / (std + 1e-6),

    "ratio"  L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)),  rho = exp(r)      DDPO-IS
    "score"  L = -A log p                                                                   DDPO-SF, REINFORCE

Mean and std are those of the prompt's last `buffer_size` rewards, these included, once there are `min_count` of them,
and before that those of the iteration. So a prompt needs no group: one sample at a time will do.

Source: DDPO, arXiv:2305.13301, section 4.3 and appendix D.2, and its published code. Deviation: rewards that are all
equal have advantage 0 exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Actors, Context
from limner.core.types import Batch, Decisions, LossOutput, Needs, Scored
from limner.learning.passes import PassLoss, over_decisions
from limner.objectives.advantage import tracked_advantage
from limner.objectives.surrogate import clipped_surrogate, scaled_clip, surrogate_metrics


@dataclass(frozen=True)
class DDPO:
    """DDPO's hyper-parameters, and the algorithm.

    `clip_low` and `clip_high` are in nats per latent element, as published for latents of `clip_elements` elements
    (SD 1.5's): for D elements the band is scaled by clip_elements / D. "score" takes one update a rollout.
    """

    surrogate: Literal["ratio", "score"] = "ratio"
    clip_low: float = 1e-4
    clip_high: float = 1e-4
    clip_elements: int = 16_384
    buffer_size: int = 16
    min_count: int = 16
    advantage_max: float = 5.0
    num_updates: int = 1

    def __post_init__(self) -> None:
        if self.clip_low <= 0 or self.clip_high <= 0 or self.advantage_max <= 0:
            raise UserError(
                f"clip_low, clip_high and advantage_max must be positive: {self.clip_low}, {self.clip_high}, "
                f"{self.advantage_max}"
            )
        if self.num_updates < 1 or (self.surrogate == "score" and self.num_updates > 1):
            raise UserError(
                f"num_updates is {self.num_updates}: it must be 1 or more, and 1 with surrogate score, whose gradient "
                "is only right for the weights that drew the samples; take surrogate ratio for more"
            )
        if not 2 <= self.min_count <= self.buffer_size:
            raise UserError(f"min_count {self.min_count} must lie between 2 and buffer_size {self.buffer_size}")

    @property
    def needs(self) -> Needs:
        """The path."""
        return Needs(path=True)

    def ratio_clip(self, elements: int) -> tuple[float, float] | None:
        """Return the clip range in nats per element for latents of `elements` elements."""
        if self.surrogate == "score":
            return None
        return scaled_clip(self.clip_low, self.clip_high, self.clip_elements, elements)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the advantage over what each prompt has earned lately; remember what it earns now."""
        past: dict[str, list[float]] = context.memory.setdefault("rewards", {})
        texts = [prompt.text for prompt in scored.rollout.prompt_of()]
        for text, reward, valid in zip(texts, scored.total.tolist(), scored.valid.tolist(), strict=True):
            if valid:
                past.setdefault(text, []).append(reward)
        for text in set(texts) & past.keys():
            past[text] = past[text][-self.buffer_size :]
        buffers = [past.get(text, []) for text in texts]
        advantage = tracked_advantage(scored.total, scored.valid, buffers, self.min_count)
        return advantage.clamp(-self.advantage_max, self.advantage_max)

    def losses(self, actors: Actors, batch: Batch, context: Context) -> Iterator[LossOutput]:
        """Return the losses of `num_updates` optimizer steps, each over a random part of the samples that teach."""
        return over_decisions(self, actors, batch, context)

    def pass_loss(self, actors: Actors, batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        elements = actors.policy.elements()
        distribution = actors.policy.distribution(pack, batch.rollout.condition)
        log_ratio = distribution.log_ratio(pack.old, pack.choice) / elements
        advantage = batch.decision_advantage(pack).to(log_ratio)
        clip = scaled_clip(self.clip_low, self.clip_high, self.clip_elements, elements)
        metrics = surrogate_metrics(log_ratio, advantage, *clip)
        metrics["ratio_deviation"] = log_ratio.detach().abs()
        if self.surrogate == "score":  # log p and the log-ratio differ by what the sampler recorded, a constant
            return -advantage * log_ratio, metrics
        return clipped_surrogate(log_ratio, advantage, *clip), metrics

    def old_decay(self, step: int) -> float:
        """The behaviour policy is the trained one: there is no other old policy."""
        return 0.0
