"""DGPO: a preference of whole groups, by how much likelier their better half has become than under the reference.

The samples of a group are noised again with one (t, noise) for all. With m the matching error of a sample, m_ref that
of the reference, A the group-relative advantage and G the size of the group,

    w = sigmoid(beta sum_i A_i (m_i - m_ref_i) / G),        L = mean over samples and times of w A_i m_i

As better samples (A > 0) come to be matched better than by the reference, and worse ones worse, the sum falls and w
with it: a group that is already ordered as its rewards are stops teaching. w has no gradient.

When to use it: rewards tell the samples of a group apart but their scale means little: only the order and size of
differences within a group count, and a group that is already ordered is left alone. It costs three forwards and a
backward a (sample, time).

Source: DGPO in the form of Flow-Factory's published code (`dgpo.py`), without its clip of the error's ratio. The size
of beta is ours: errors are means over the latent, and differ by some hundredths.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.needs import Needs
from limner.core.protocols import Actors, ForwardProcess
from limner.core.settings import Count, Natural, NotNegative, Positive, Share, settings
from limner.core.types import Batch, PassLoss, Renoised
from limner.diffusion.timesteps import TrainingTimes
from limner.learning.credit import relative_advantage
from limner.learning.restoration import frozen, matching_error, renoising_of, restored
from limner.objectives.advantage import AdvantageScale


@settings
class DGPO:
    """DGPO's hyper-parameters, and the algorithm. It costs three forward passes and one backward a (sample, time)."""

    beta: Positive = 100.0
    """How soon a group that is ordered as its rewards are stops teaching."""
    num_times: Count = 4
    times: TrainingTimes = "logit_normal"
    min_time: Share = 0.0
    scale: AdvantageScale = "group"
    ddof: Natural = 0
    epsilon: NotNegative = 1e-4
    num_updates: Count = 1

    @property
    def needs(self) -> Needs:
        """The reference, and whole groups: a pass before the loss says how well each is ordered."""
        return Needs(renoise=renoising_of(self, by_group=True), reference=True)

    advantage = relative_advantage

    def measure(self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised) -> Float[Tensor, " pack"]:
        """Return A (m - m_ref) of each (sample, time)."""
        new, reference = restored(actors.policy, batch, pack), frozen(actors.reference, batch, pack)
        change = matching_error(new, pack) - matching_error(reference, pack)
        return batch.decision_advantage(pack).to(change) * change

    def pass_loss(
        self, actors: Actors[ForwardProcess], batch: Batch, pack: Renoised, group_mean: Float[Tensor, " pack"]
    ) -> PassLoss:
        """Return the loss of each (sample, time), and its health."""
        error = matching_error(restored(actors.policy, batch, pack), pack)
        w = torch.sigmoid(self.beta * group_mean)
        return w * batch.decision_advantage(pack).to(error) * error, {"error": error.detach(), "group_weight": w}
