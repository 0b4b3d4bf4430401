"""DDPO: a policy gradient over the denoising steps, with the statistics of each prompt's past rewards as baseline.

For each decision of each sample, with r the log-ratio per latent element and A = (reward - mean) / (std + 1e-6),

    "ratio"  L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)),  rho = exp(r)      DDPO-IS
    "score"  L = -A log p                                                                   DDPO-SF, REINFORCE

Mean and std are those of the prompt's last `buffer_size` rewards, these included, once there are `min_count` of them,
and before that those of the iteration. So a prompt needs no group: one sample at a time will do.

When to use it: prompts come back often and a group of each cannot be afforded: the baseline is the prompt's own past.
With groups of one prompt FlowGRPO's baseline is fresher.

Source: DDPO, arXiv:2305.13301, section 4.3 and appendix D.2, and its published code. Deviation: rewards that are all
equal have advantage 0 exactly.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.needs import Needs
from limner.core.protocols import Actors, Context, DecisionProcess
from limner.core.settings import Cap, Count, settings
from limner.core.types import Batch, Decisions, PassLoss, Scored
from limner.learning.ratio import clip_of, rescored
from limner.objectives.advantage import tracked_advantage


@settings
class DDPO:
    """DDPO's hyper-parameters, and the algorithm.

    `clip_low` and `clip_high` are in nats per latent element, as published for latents of `clip_elements` elements
    (SD 1.5's): for D elements the band is scaled by clip_elements / D. "score" takes one update a rollout.
    """

    surrogate: Literal["ratio", "score"] = "ratio"
    """The clipped ratio, or the score function (REINFORCE)."""
    clip_low: Cap = 1e-4
    clip_high: Cap = 1e-4
    clip_elements: Count = 16_384
    buffer_size: Count = 16
    """Last rewards of a prompt whose mean and standard deviation its advantages are relative to."""
    min_count: Count = 16
    """As long as a prompt has fewer rewards than this, those of the whole batch stand in."""
    advantage_max: Cap = 5.0
    num_updates: Count = 1

    def __post_init__(self) -> None:
        if self.surrogate == "score" and self.num_updates > 1:
            raise UserError(
                f"num_updates is {self.num_updates}: it must be 1 with surrogate score, whose gradient is only right "
                "for the weights that drew the samples; take surrogate ratio for more"
            )
        if not 2 <= self.min_count <= self.buffer_size:
            raise UserError(f"min_count {self.min_count} must lie between 2 and buffer_size {self.buffer_size}")

    @property
    def needs(self) -> Needs:
        """The path, and no group: a sample is compared with its prompt's past."""
        return Needs(path=True, clip=clip_of(self) if self.surrogate == "ratio" else None, group=False)

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

    def pass_loss(self, actors: Actors[DecisionProcess], batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        again = rescored(actors, batch, pack)
        if self.surrogate == "score":  # log p and the log-ratio differ by what the sampler recorded, a constant
            return again.loss(lambda ratio, advantage: -advantage * ratio), again.health(clip_of(self))
        return again.clipped(clip_of(self))
