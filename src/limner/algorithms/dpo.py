"""Diffusion-DPO, and its sisters: learn from pairs, of which one is better; no reward is needed, nor a sampler's path.

Both samples of a pair are noised with one (t, noise). With l the error of the trained network on a sample, l_ref that
of the reference, w the better sample and l the worse one,

    gap = (l^w - l_ref^w) - (l^l - l_ref^l)
    sigmoid  L = -log sigmoid(-beta gap / 2)        ipo         L = (gap + 1 / (2 beta))^2
    hinge    L = max(0, 1 + beta gap)               calibrated  L = (R^w - R^l + beta gap / 2)^2          CaPO

Of two clips either may be the better one for a while. With labels y_f of their segments, from 1 where w is better to -1
where l is, 0 for ties, the gap is the mean over all elements of y_f times (l^w - l_ref^w) - (l^l - l_ref^l): the sum of
the segments' gaps, each with its sign and by its share of the clip (DenseDPO). With all labels 1 it is the one above.

Pairs are given (`--source Preferences`), or made while it learns: of each group of samples that are drawn for a prompt,
the best and the worst by any reward or comparer. Then the reference may follow, every `refresh` iterations. With `pair`
"fronts" they are chosen as CaPO does: a sample's calibrated reward R is the share of its group that it is expected to
beat, the mean of sigmoid(r - r'), and with several rewards, terms of the total, the better one is of the front that
nothing beats in all of them, and the worse one of the last.

When to use it: people, or a judge, have said which of two pictures is better, and there is nothing else. It costs two
forwards of the reference, and two forwards and backwards, a pair and time. IPO and CaPO stop where the other two would
go on to separate a pair for ever.

Source: Diffusion-DPO, arXiv:2311.12908; on flow matching: VideoReward's Flow-DPO, arXiv:2501.13918; IPO,
arXiv:2310.12036; hinge: SLiC, arXiv:2305.10425; CaPO, arXiv:2502.02588; segments: DenseDPO, arXiv:2506.03517, eq. 7;
its code is not known here: a latent's time that two segments share has the mean of their labels. A beta means what
Diffusion-DPO's published code and the tables of the paper mean by it, 2,000 to 5,000: the loss has beta / 2 times the
mean over elements, where the paper's formula has beta T omega(lambda_t) times the sum. With `noising.error` "noise" a
flow model's errors are weighed by (1 - t)^2, Flow-DPO's weight that depends on time.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs
from limner.core.protocols import Actors, Context, ForwardProcess
from limner.core.settings import Count, Natural, Positive, settings
from limner.core.types import Batch, Pairs, PassLoss, Renoised, Scored
from limner.learning.preference import best_and_worst, gap_of
from limner.learning.restoration import Noising, renoising_of
from limner.objectives.advantage import calibrated_pair, win_rate
from limner.objectives.preference import PairLoss, pair_loss


@settings
class DPO:
    """DPO's hyper-parameters, and the algorithm. `refresh` 0: the reference stays the base."""

    beta: Positive = 2000.0
    """How steeply the loss falls as the pair comes apart, as in the formula."""
    loss: PairLoss = "sigmoid"
    """Which function of the gap. A beta means another thing in each: sigmoid and calibrated have beta / 2 before it,
    hinge and ipo no 1/2. At a gap of 0 sigmoid's slope is beta / 4, hinge's beta, ipo's 1 / beta; ipo stops at a gap of
    -1 / (2 beta), so that a larger beta asks for less, and calibrated at one of -2 (R^w - R^l) / beta."""
    pair: Literal["extremes", "fronts"] = "extremes"
    """How a drawn group gives a pair: its best and worst sample, or one of its best and one of its last front."""
    noising: Noising = Noising()
    refresh: Natural = 0
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """Pairs at one noise and time, and the reference."""
        how = renoising_of(self.noising, by_group=True)
        segments = self.loss != "calibrated"  # whose margin is of whole samples
        return Needs(renoise=how, pairs=True, segments=segments, reference=True, refresh=self.refresh)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return a number above 0 for the better sample of each group, and below 0 for the worse one; else 0."""
        if self.pair == "extremes":
            return best_and_worst(self, scored, context)
        group, valid = scored.rollout.group, scored.valid
        terms = [term.weight * term.value for term in scored.terms.values()] or [scored.total]
        return calibrated_pair(torch.stack([win_rate(each, group, valid) for each in terms], 1), group, valid)

    def pass_loss(self, actors: Actors[ForwardProcess], batch: Batch, pack: Pairs[Renoised]) -> PassLoss:
        """Return the loss of each (pair, time), and its health."""
        gap, health = gap_of(self.noising.error, actors, batch, pack)
        loss = pair_loss(gap, pack.margin.to(gap), self.beta, self.loss)
        return loss, health | {"loss": loss.detach()}
