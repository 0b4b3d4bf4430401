"""GRPO-Guard: Flow-GRPO with a ratio that clips alike at every step, and steps that weigh alike.

With d the difference of the means of a decision under the new and the old weights, n the noise that was drawn, D the
latent's size and h the step's length:

    rho = exp(d . n / D),   L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) / h

Flow-GRPO's ratio has mean -KL and a spread that falls with the step's std, so its clip hardly acts on bad samples, nor
on late steps; this one has mean 0 and one scale.

When to use it: FlowGRPO's ratio drifts below 1 or pictures decay after many iterations: here bad samples are clipped as
good ones are, at every step alike.

Source: GRPO-Guard, arXiv:2510.22319, and the per-sample form of its reimplementations (the authors' script reduces the
correction over the whole batch to one number).
"""

from __future__ import annotations

from limner.core.needs import Needs
from limner.core.protocols import Actors, DecisionProcess
from limner.core.settings import Cap, Count, Natural, NotNegative, settings
from limner.core.types import Batch, Decisions, PassLoss
from limner.learning.credit import clipped_advantage
from limner.learning.penalty import with_divergence
from limner.learning.ratio import clip_of, rescored
from limner.objectives.advantage import AdvantageScale


@settings
class GRPOGuard:
    """GRPO-Guard's hyper-parameters, and the algorithm.

    `clip_low` and `clip_high` are as published, for latents of `clip_elements` elements: for D elements the band is
    scaled by clip_elements / D.
    """

    clip_low: Cap = 2e-6
    clip_high: Cap = 2e-6
    clip_elements: Count = 65_536
    scale: AdvantageScale = "group"
    ddof: Natural = 0
    epsilon: NotNegative = 1e-4
    advantage_max: Cap = 5.0
    kl_weight: NotNegative = 0.0
    num_updates: Count = 2

    @property
    def needs(self) -> Needs:
        """The path, a noise floor of the ratio that it clips, and the reference if there is a penalty."""
        return Needs(path=True, clip=clip_of(self, "normalised"), reference=self.kl_weight > 0)

    advantage = clipped_advantage

    def pass_loss(self, actors: Actors[DecisionProcess], batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        again = rescored(actors, batch, pack, "normalised")
        loss, health = again.clipped(clip_of(self))
        balanced = loss / pack.length.to(loss), health
        return with_divergence(balanced, self.kl_weight, again.distribution, actors, batch, pack)
