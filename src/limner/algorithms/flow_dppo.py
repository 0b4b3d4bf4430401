"""Flow-DPPO: Flow-GRPO whose trust region is an exact divergence, not a clipped ratio.

For each decision, with rho = exp(log-ratio per latent element) and KL per element between its Gaussians under the new
and the old weights,

    L = -A rho,   but 0 where KL >= limit and rho has already moved the way A asks for

A denoising step's Gaussian is known in full, so the divergence is exact and does not depend on the noise drawn, while a
ratio of one sample is a noisy sign of it.

When to use it: FlowGRPO's clip range would be decided by rounding or never be reached: the limit is on an exact KL, in
nats.

Source: Flow-DPPO, its published code (limit 1e-5 per element at 65,536 elements).
"""

from __future__ import annotations

from limner.core.needs import Needs
from limner.core.protocols import Actors, DecisionProcess
from limner.core.settings import Count, Natural, NotNegative, Positive, settings
from limner.core.types import Batch, Decisions, PassLoss
from limner.learning.credit import relative_advantage
from limner.learning.ratio import rescored
from limner.objectives.advantage import AdvantageScale
from limner.objectives.surrogate import trusted_surrogate


@settings
class FlowDPPO:
    """Flow-DPPO's hyper-parameters, and the algorithm.

    `kl_limit` is in nats per element as published for latents of `clip_elements` elements; for D elements it is scaled
    by clip_elements / D, which keeps it in nats. The advantage is not clipped.
    """

    kl_limit: Positive = 1e-5
    clip_elements: Count = 65_536
    scale: AdvantageScale = "group"
    ddof: Natural = 0
    epsilon: NotNegative = 1e-4
    num_updates: Count = 2

    needs = Needs(path=True)

    advantage = relative_advantage

    def pass_loss(self, actors: Actors[DecisionProcess], batch: Batch, pack: Decisions) -> PassLoss:
        """Return the loss of each decision, and its health."""
        again = rescored(actors, batch, pack)
        limit = self.kl_limit * self.clip_elements / again.elements
        divergence = again.distribution.kl(pack.old).detach() / again.elements
        loss = again.loss(lambda ratio, advantage: trusted_surrogate(ratio, advantage, divergence, limit))
        return loss, {
            "ratio_deviation": again.deviation,
            "masked": (loss.detach() == 0).to(loss),
            "divergence": divergence,
        }
