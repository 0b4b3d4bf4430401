"""PPO with a critic: every denoising step is credited with how much it raised the reward to expect.

A critic V(x_t, t, c) learns the reward that a sample in state x_t will earn. A decision's advantage is GAE's, with the
reward at the end and nothing before; with decay = 1 that is reward - V. Then, with r the log-ratio per latent element,

    rho = exp(r),   L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) + kl_weight KL(policy || reference) / D

When to use it: the reward can be foreseen from half-drawn samples, so that a critic tells the steps apart; with few
samples an iteration that does not pay. One process only.

Source: PPO, arXiv:1707.06347; GAE, arXiv:1506.02438. DPOK, arXiv:2305.16381, is the preset `dpok`: surrogate "clip"
(-A clip(rho), no gradient outside the band), decay 1, and the penalty. Deviation from DPOK's code: the KL is the exact
one of the step, where the code takes the squared difference of the noise predictions.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs
from limner.core.protocols import Actors, Context, DecisionProcess
from limner.core.settings import Cap, Count, NotNegative, Positive, Range, settings
from limner.core.types import Batch, Decisions, PassLoss, Scored
from limner.learning.critic import Critic, critic_features
from limner.learning.penalty import with_divergence
from limner.learning.ratio import clip_of, rescored
from limner.objectives.advantage import generalised_advantage


@settings
class PPO:
    """PPO's hyper-parameters, and the algorithm.

    `clip_low` and `clip_high` are in nats per latent element, as published for latents of `clip_elements` elements: for
    D elements the band is scaled by clip_elements / D. `decay` is GAE's lambda. `normalise` divides the advantages of
    an iteration by their root mean square. `critic_steps` are taken each iteration, after the advantages.
    """

    surrogate: Literal["ppo", "clip"] = "ppo"
    """PPO's own maximum of two losses, or one that is clipped alone."""
    clip_low: Cap = 1e-4
    clip_high: Cap = 1e-4
    clip_elements: Count = 65_536
    decay: Annotated[float, Range(least=0, most=1)] = 0.95
    normalise: bool = True
    advantage_max: Cap = 5.0
    kl_weight: NotNegative = 0.0
    critic_lr: Positive = 1e-3
    """Learning rate of the critic."""
    critic_steps: Count = 20
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """The path, the reference if there is a penalty, and no group: a critic says what to expect."""
        return Needs(path=True, reference=self.kl_weight > 0, clip=clip_of(self), group=False, alone=True)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, "batch steps"]:
        """Return GAE's advantage of every decision, 0 for invalid samples; then teach the critic what was earned."""
        rollout, valid = scored.rollout, scored.valid
        count, steps = rollout.path.mask[valid].shape
        advantage = scored.total.new_zeros(len(rollout), steps)
        if not valid.any():
            return advantage
        index = rollout.prompt_index[valid].repeat_interleave(steps)
        states = [part[valid].flatten(0, 1) for part in rollout.path.states.features()]
        features = critic_features(states, rollout.condition, index)
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

    def pass_loss(self, actors: Actors[DecisionProcess], batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        again = rescored(actors, batch, pack)
        loss = again.clipped(clip_of(self), pessimistic=self.surrogate == "ppo")
        return with_divergence(loss, self.kl_weight, again.distribution, actors, batch, pack)
