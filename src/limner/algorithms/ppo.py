"""PPO with a critic: every denoising step is credited with how much it raised the reward to expect.

A critic V(x_t, t, c) learns the reward that a sample in state x_t will earn. A decision's advantage is GAE's, with the
reward at the end and nothing before; with decay = 1 that is reward - V. Then, with r the log-ratio per latent element,

    rho = exp(r),   L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) + kl_weight KL(policy || reference) / D

Source: PPO, arXiv:1707.06347; GAE, arXiv:1506.02438. DPOK, arXiv:2305.16381, is the preset `dpok`: surrogate "clip"
(-A clip(rho), no gradient outside the band), decay 1, and the penalty. Deviation from DPOK's code: the KL is the exact
one of the step, where the code takes the squared difference of the noise predictions.
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
from limner.core.types import Batch, Decisions, LossOutput, Needs, Scored
from limner.learning.critic import Critic, critic_features
from limner.learning.passes import PassLoss, over_decisions
from limner.learning.penalty import decision_penalty
from limner.objectives.advantage import generalised_advantage
from limner.objectives.surrogate import clipped_surrogate, scaled_clip, surrogate_metrics


@dataclass(frozen=True)
class PPO:
    """PPO's hyper-parameters, and the algorithm.

    `clip_low` and `clip_high` are in nats per latent element, as published for latents of `clip_elements` elements: for
    D elements the band is scaled by clip_elements / D. `decay` is GAE's lambda. `normalise` divides the advantages of
    an iteration by their root mean square. `critic_steps` are taken each iteration, after the advantages.
    """

    surrogate: Literal["ppo", "clip"] = "ppo"
    clip_low: float = 1e-4
    clip_high: float = 1e-4
    clip_elements: int = 65_536
    decay: float = 0.95
    normalise: bool = True
    advantage_max: float = 5.0
    kl_weight: float = 0.0
    critic_lr: float = 1e-3
    critic_steps: int = 20
    num_updates: int = 1

    def __post_init__(self) -> None:
        if self.clip_low <= 0 or self.clip_high <= 0 or self.advantage_max <= 0 or self.critic_lr <= 0:
            raise UserError(
                f"clip_low, clip_high, advantage_max and critic_lr must be positive: {self.clip_low}, "
                f"{self.clip_high}, {self.advantage_max}, {self.critic_lr}"
            )
        if not 0 <= self.decay <= 1 or self.kl_weight < 0:
            raise UserError(f"decay {self.decay} must lie in [0, 1], kl_weight {self.kl_weight} must not be negative")
        if self.num_updates < 1 or self.critic_steps < 1:
            raise UserError(
                f"num_updates and critic_steps must be 1 or more, got {self.num_updates} and {self.critic_steps}"
            )

    @property
    def needs(self) -> Needs:
        """The path, and the reference if there is a penalty."""
        return Needs(path=True, reference=self.kl_weight > 0)

    def ratio_clip(self, elements: int) -> tuple[float, float]:
        """Return the clip range in nats per element for latents of `elements` elements."""
        return scaled_clip(self.clip_low, self.clip_high, self.clip_elements, elements)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, "batch steps"]:
        """Return GAE's advantage of every decision, 0 for invalid samples; then teach the critic what was earned."""
        rollout, valid = scored.rollout, scored.valid
        states, t = rollout.path.states[valid], rollout.path.times[valid, :, 0]
        count, steps = t.shape
        advantage = torch.zeros(len(rollout), steps)
        if not count:
            return advantage
        index = rollout.prompt_index[valid].repeat_interleave(steps)
        features = critic_features(states.flatten(0, 1), t.flatten(), rollout.condition, index)
        rewards = scored.total[valid]
        critic = Critic.load(context.memory, features, rewards, self.critic_lr)
        values = critic.values(features).view(count, steps)
        earned = torch.cat([torch.zeros(count, steps - 1), rewards[:, None]], 1)
        found = generalised_advantage(torch.cat([values, torch.zeros(count, 1)], 1), earned, self.decay)
        critic.fit(features, (values + found).flatten(), self.critic_steps, context.rng.child("critic"))
        critic.save(context.memory)
        if self.normalise:
            found = found / (found.square().mean().sqrt() + 1e-8)
        advantage[valid] = found.clamp(-self.advantage_max, self.advantage_max)
        return advantage

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
        loss = clipped_surrogate(log_ratio, advantage, *clip, pessimistic=self.surrogate == "ppo")
        metrics = surrogate_metrics(log_ratio, advantage, *clip)
        metrics["ratio_deviation"] = log_ratio.detach().abs()
        penalty, health = decision_penalty(self.kl_weight, distribution, actors, pack, batch.rollout.condition)
        return loss + penalty, metrics | health

    def old_decay(self, step: int) -> float:
        """The behaviour policy is the trained one: there is no other old policy."""
        return 0.0
