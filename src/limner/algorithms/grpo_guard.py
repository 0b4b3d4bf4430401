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

from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs
from limner.core.protocols import Actors, Context, DecisionProcess
from limner.core.settings import Count, Natural, NotNegative, Positive, settings
from limner.core.types import Batch, Decisions, PassLoss, Scored
from limner.learning.credit import relative_advantage
from limner.learning.ratio import clip_of, rescored
from limner.objectives.advantage import AdvantageScale


@settings
class GRPOGuard:
    """GRPO-Guard's hyper-parameters, and the algorithm.

    `clip_low` and `clip_high` are as published, for latents of `clip_elements` elements: for D elements the band is
    scaled by clip_elements / D.
    """

    clip_low: Positive = 2e-6
    clip_high: Positive = 2e-6
    clip_elements: Count = 65_536
    scale: AdvantageScale = "group"
    ddof: Natural = 0
    epsilon: NotNegative = 1e-4
    advantage_max: Positive = 5.0
    num_updates: Count = 2

    @property
    def needs(self) -> Needs:
        """The path, and a noise floor of the ratio that it clips."""
        return Needs(path=True, clip=clip_of(self, "normalised"))

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return the group-relative advantage, 0 for invalid samples and constant groups."""
        return relative_advantage(self, scored, context).clamp(-self.advantage_max, self.advantage_max)

    def pass_loss(self, actors: Actors[DecisionProcess], batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        loss, health = rescored(actors, batch, pack, "normalised").clipped(clip_of(self))
        return loss / pack.length.to(loss), health
