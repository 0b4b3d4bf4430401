"""Diffusion-KTO: learn from single samples of which it is known whether they are wanted; they need not come in pairs.

A sample is noised again. With l the error of the trained network and l_ref that of the reference,

    g = l_ref - l,   z = max(0, mean of g over all samples of the step),   u = y beta (g - z),   L = weight_y (1 - h(u))

with y = 1 for what is wanted and -1 for what is not. z, which has no gradient, is what counts as neither gain nor loss.
A sample is wanted if what it is worth exceeds `threshold`, as a given one's does that people liked (1; 0 if they did
not), or a reward's answer. `judged` "group" compares it with the mean of its group instead.

When to use it: thumbs up and down, or a filter that says yes or no. Pairs say what is better, and are refused but with
`--source.unpair true`: then the better sample is wanted and the worse one not, and of a tie both or neither.

Source: Diffusion-KTO, arXiv:2404.04465, and its published code (beta 1,000, h the sigmoid, both weights 1). Deviation:
z is the mean over a whole optimizer step, where the code has that of a micro-batch of every process.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs
from limner.core.protocols import Actors, Context, ForwardProcess
from limner.core.settings import Count, Finite, NotNegative, Positive, settings
from limner.core.types import Batch, PassLoss, Renoised, Scored
from limner.learning.preference import ordered
from limner.learning.restoration import Noising, frozen, matching_error, renoising_of, restored
from limner.objectives.advantage import group_advantage
from limner.objectives.preference import Utility, kto_loss


@settings
class KTO:
    """KTO's hyper-parameters, and the algorithm. `offset` "none" takes 0 for z, and half the forwards."""

    beta: Positive = 1000.0
    """How steeply the utility saturates, as in the formula."""
    utility: Utility = "sigmoid"
    """h, from gain to worth."""
    offset: Literal["mean", "none"] = "mean"
    judged: Literal["threshold", "group"] = "threshold"
    """Against what a sample's worth is held: a number, or the mean of its group."""
    threshold: Finite = 0.5
    """Above it a sample is wanted, below it not."""
    wanted_weight: NotNegative = 1.0
    """Weight of wanted samples."""
    unwanted_weight: NotNegative = 1.0
    """Weight of unwanted ones."""
    noising: Noising = Noising()
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """The reference, and, for z, a pass over all samples before the loss; wanted and unwanted, or a group."""
        by_all, group = self.offset == "mean", self.judged == "group"
        how = renoising_of(self.noising, by_all=by_all)
        return Needs(renoise=how, reference=True, group=group, divide=None if group else self.threshold)

    def advantage(self, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
        """Return 1 for what is wanted and -1 for what is not; 0 at the threshold, and for what was not judged."""
        if self.judged == "group":
            return group_advantage(scored.total, scored.rollout.group, scored.valid, "none").sign()
        return torch.where(scored.valid, scored.total - self.threshold, 0).sign()

    def measure(self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised) -> Float[Tensor, " pack"]:
        """Return g of each (sample, time)."""
        new, reference = (frozen(each, batch, pack) for each in (actors.policy, actors.reference))
        return matching_error(reference, pack, self.noising.error) - matching_error(new, pack, self.noising.error)

    def pass_loss(self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised, *mean: Tensor) -> PassLoss:
        """Return the loss of each (sample, time), and its health."""
        error = matching_error(restored(actors.policy, batch, pack), pack, self.noising.error)
        gain = matching_error(frozen(actors.reference, batch, pack), pack, self.noising.error) - error
        baseline = mean[0].clamp(min=0) if mean else torch.zeros_like(gain)
        label = batch.decision_advantage(pack).to(gain)
        weight = torch.where(label > 0, self.wanted_weight, self.unwanted_weight)
        loss = weight * kto_loss(gain, label > 0, baseline, self.beta, self.utility)
        return loss, ordered(label * gain) | {"error": error.detach(), "loss": loss.detach()}
