"""DSPO: the better sample of a pair is learned as data are, from where the pair says that the score should be.

With v the trained network's prediction of the better sample, v_ref the reference's, v* what was to be predicted, and
the `gap` of DPO's loss,

    L = |(v - v*) - beta w (v - v_ref)|^2 / D,        w = 1 - sigmoid(-beta gap / 2)

The worse sample counts in w alone. As a pair comes to be ordered w goes to 0, and what is left is fine-tuning.

When to use it: better samples are good enough to be imitated. DPO only asks that they be better.

Source: DSPO (ICLR 2025), its published code, in which w has a gradient; beta .001 as its launcher sets it.
"""

from __future__ import annotations

from limner.core.needs import Needs
from limner.core.protocols import Actors, ForwardProcess
from limner.core.settings import Count, Positive, settings
from limner.core.types import Batch, Pairs, PassLoss, Renoised
from limner.learning.preference import best_and_worst, restored_sides
from limner.learning.restoration import Noising, predicted, renoising_of
from limner.objectives.preference import tilted_score_loss


@settings
class DSPO:
    """DSPO's hyper-parameters, and the algorithm."""

    beta: Positive = 1e-3
    """How far the target lies beyond the better sample, as in the formula."""
    noising: Noising = Noising()
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """Pairs at one noise and time, and the reference."""
        return Needs(renoise=renoising_of(self.noising, by_group=True), pairs=True, reference=True)

    advantage = best_and_worst

    def pass_loss(self, actors: Actors[ForwardProcess], batch: Batch, pack: Pairs[Renoised]) -> PassLoss:
        """Return the loss of each (pair, time), and its health."""
        error = self.noising.error
        sides = restored_sides(error, actors, batch, pack)
        new, reference, target = (predicted(each, error).chunk(2)[0] for each in (*sides.estimates, pack.both))
        region = None if pack.both.region is None else pack.both.region.chunk(2)[0]
        loss = tilted_score_loss(new, reference, target, sides.gap, self.beta, region)
        return loss, sides.health() | {"loss": loss.detach()}
