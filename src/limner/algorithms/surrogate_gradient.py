"""A gradient of a judge that has none: the policy climbs what a surrogate, which learns along, says of its samples.

A small network S(y, c) learns, in standard deviations, what the judge says of finished samples y for prompts c. Once it
orders samples that it has not seen well enough, its slope there is the advantage, a number for each element,

    A = dS/dy (y, c),    L = -A . y(theta) + kl_weight KL(policy || reference) / D

with y(theta) the sample that the same chance leads to under the present weights, through which the gradient goes. At
the weights that drew it that of L is the gradient of -S.

When to use it: generators of one step, whose samples are one decision, by sampler.chance noise. There a slope says of
each element which way to go, where a score function has one number for all of a sample. Beware of chance output: a
generator that is changed itself soon makes what S likes and the judge does not (docs/generators.md). One process only.

Source: Silver et al., 2014, "Deterministic Policy Gradient Algorithms", theorem 1, for one decision; a surrogate reward
that is learned along, TDM-R1, arXiv:2603.07700. Deviations from the second: S learns by least squares, not by
comparisons, and of finished samples alone; what holds the policy back is a KL and not a distillation loss.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs
from limner.core.protocols import Actors, Context, Reparameterised
from limner.core.settings import Count, NotNegative, Positive, Share, settings
from limner.core.transfer import sent
from limner.core.types import Batch, Decisions, PassLoss, Scored
from limner.learning.penalty import with_divergence
from limner.learning.surrogate import Fitting, Surrogate


@settings
class SurrogateGradient:
    """The hyper-parameters, and the algorithm."""

    surrogate_lr: Positive = 1e-3
    """Learning rate of the surrogate."""
    surrogate_steps: Count = 20
    """Its steps an iteration, each on 256 samples."""
    keep: Count = 64
    """Iterations whose samples it learns from."""
    shown_noise: NotNegative = 0.3
    """Std of the noise on what it learns from, in units of the sample."""
    least_order: Share = 0.6
    """Share of pairs of a group that it must order rightly, unseen, before the policy learns from it; .5 is chance."""
    kl_weight: NotNegative = 0.0
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """The path, a gradient through what it leads to, and the reference if there is a penalty."""
        return Needs(path=True, outcome=True, reference=self.kl_weight > 0, alone=True)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, "batch 1 *latent"]:
        """Teach the surrogate what was earned; return its slope, 0 for invalid samples and while it orders badly."""
        rollout, judged = scored.rollout, scored.valid.nonzero()[:, 0]
        slope = torch.zeros_like(rollout.sample)
        if len(judged):
            rows = sent(judged, slope.device)
            how = Fitting(self.surrogate_lr, self.surrogate_steps, self.keep, self.shown_noise)
            shown = rollout.sample[rows], rollout.condition, rollout.prompt_index[judged], scored.total[judged]
            surrogate = Surrogate.load(context.memory, *shown, how)
            context.said["surrogate_order"] = surrogate.order(rollout.group[judged])
            surrogate.fit(context.rng.child("surrogate"))
            surrogate.save(context.memory)
            if context.said["surrogate_order"] >= self.least_order:
                slope[rows] = surrogate.gradient()
        return slope[:, None]

    def pass_loss(self, actors: Actors[Reparameterised], batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        drawn_from, made = actors.policy.outcome(pack, batch.rollout.condition)
        advantage = batch.decision_advantage(pack)
        slope = advantage.reshape(len(made), *(advantage.shape[1:] or (1,) * (made.ndim - 1)))
        climbed = (slope * made).flatten(1).sum(1)
        return with_divergence((-climbed, {}), self.kl_weight, drawn_from, actors, batch, pack)
