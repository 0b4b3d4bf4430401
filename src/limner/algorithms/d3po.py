"""D3PO: pairs of paths: each step of the better sample is made likelier than the step of the worse one.

For each step of a pair, with u = log clip(rho, 1 - clip, 1 + clip), rho the ratio to the reference per latent element,

    L = -log sigmoid(beta (u^w - u^l))

Beyond the clip range there is no gradient: a step that is already likelier, or less likely, by so much is left alone.
With branches that part at one step (`sampler.shared_start`, `sampler.window` 1) the two steps start from one state, and
their preference is that step's own (SPO).

When to use it: a model draws with noise in many steps, its likelihood counts and not an error that stands for it, and
samples are drawn while it learns.

Source: D3PO, arXiv:2311.13231, eq. 12, and its published code: beta .1, clip .1, mean log-probabilities, all steps.
SPO, arXiv:2406.04314, has a model judge each step's estimate; here the finished sample is judged, a path of the plain
ODE away from the step.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs
from limner.core.protocols import Actors, Context, DecisionProcess
from limner.core.settings import Count, NotNegative, Positive, Share, settings
from limner.core.types import Batch, Decisions, Pairs, PassLoss, Scored
from limner.learning.preference import ordered
from limner.learning.ratio import to_reference
from limner.objectives.advantage import extreme_pair
from limner.objectives.preference import path_pair_loss


@settings
class D3PO:
    """D3PO's hyper-parameters, and the algorithm. A pair's rewards differ by `least_gap` or more."""

    beta: Positive = 0.1
    """How steeply the loss falls as the pair comes apart, as in the formula."""
    clip: Share = 0.1
    """How far from 1 a step's ratio has a gradient."""
    least_gap: NotNegative = 0.0
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """The paths of pairs, and the reference."""
        return Needs(path=True, pairs=True, reference=True)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return 1 for the best sample of each group and -1 for its worst, if they are far enough apart."""
        return extreme_pair(scored.total, scored.rollout.group, scored.valid, self.least_gap)

    def pass_loss(self, actors: Actors[DecisionProcess], batch: Batch, pack: Pairs[Decisions]) -> PassLoss:
        """Return the loss of each (pair, step), and its health."""
        better, worse = to_reference(actors, batch, pack.both).chunk(2)
        loss = path_pair_loss(better, worse, self.beta, self.clip)
        return loss, ordered(better - worse) | {"loss": loss.detach()}
