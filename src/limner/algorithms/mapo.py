"""MaPO: pairs without a reference: the better sample is learned, and its lead over the worse one is widened.

With l^w and l^l the errors of the trained network on both, at one noise and time,

    L = l^w - beta log sigmoid(scale (phi(l^w) - phi(l^l))),        phi(l) = kappa l / (e^(kappa l) - 1)

No second set of weights is kept or asked: a third of DPO's memory for weights when all are trained, and half its
forwards.

When to use it: memory is short, or what the base makes is to be left behind, as for a style it does not have: nothing
holds the network to the base but the first term.

Source: MaPO, arXiv:2406.06424, and its published code, with beta .1, kappa .5 and `scale` 1,000.
"""

from __future__ import annotations

from limner.core.needs import Needs
from limner.core.protocols import Actors, ForwardProcess
from limner.core.settings import Count, NotNegative, Positive, settings
from limner.core.types import Batch, Pairs, PassLoss, Renoised
from limner.learning.preference import best_and_worst, ordered
from limner.learning.restoration import Noising, matching_error, renoising_of, restored
from limner.objectives.preference import margin_loss


@settings
class MaPO:
    """MaPO's hyper-parameters, and the algorithm."""

    beta: NotNegative = 0.1
    """Weight of the lead over the worse sample; 0: the better one is only imitated."""
    kappa: Positive = 0.5
    """How soon an error counts as hopeless: phi falls from 1 over an error of about 1 / kappa."""
    margin_scale: Positive = 1000.0
    """How steeply the lead counts, `scale` in the formula."""
    noising: Noising = Noising()
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """Pairs at one noise and time, and nothing else."""
        return Needs(renoise=renoising_of(self.noising, by_group=True), pairs=True)

    advantage = best_and_worst

    def pass_loss(self, actors: Actors[ForwardProcess], batch: Batch, pack: Pairs[Renoised]) -> PassLoss:
        """Return the loss of each (pair, time), and its health."""
        error = matching_error(restored(actors.policy, batch, pack.both), pack.both, self.noising.error)
        better, worse = error.chunk(2)
        loss = margin_loss(better, worse, self.beta, self.margin_scale, self.kappa)
        return loss, ordered(worse - better) | {"error": better.detach()}
