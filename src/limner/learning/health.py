"""What an algorithm says of its own health: every name that a loss or an update logs, and what the number means.

All are means over the decisions, or renoised samples, of an iteration.
"""

from __future__ import annotations

from collections.abc import Mapping

HEALTH: Mapping[str, str] = {
    "ratio_deviation": "Mean |log(p / p_sampler)| of a decision, in nats per latent element: how far an update has "
    "moved from the weights that drew the samples.",
    "clip_low": "Share of decisions that were bad and are already made less likely by the full clip range.",
    "clip_high": "Share of decisions that were good and are already made more likely by the full clip range.",
    "approx_kl": "log-ratio² / 2 per element: second-order estimate of the divergence from the sampling weights.",
    "surrogate_order": "Share of the pairs of a group that a surrogate orders as their rewards do, before it learns "
    "from them; .5 is chance.",
    "masked": "Share of decisions that have left the trust region and would go on; they have no gradient.",
    "divergence": "KL divergence from the sampling weights in nats per latent element, exact, mean over decisions.",
    "kl": "KL divergence from the reference (the frozen base) in nats, mean over decisions.",
    "old_distance": "Mean squared difference of the velocities of the trained and the sampling weights.",
    "reference_distance": "Mean squared difference of the velocities of the trained weights and the frozen base.",
    "error": "Mean squared error of the velocity on samples that were noised again.",
    "group_weight": "Weight of a group, 1 where it is ordered against its rewards and 0 where along them.",
    "pair_accuracy": "Share of pairs whose better sample leads by the implicit reward, 1/2 at first; of single "
    "samples, of those that have moved as they are wanted to.",
    "better_change": "Error of the better samples of pairs minus that of the reference: below 0 they are learned.",
    "worse_change": "The same of the worse ones: above 0 they are left.",
    "loss": "Mean loss; it compares micro-steps of one iteration, and says little across iterations.",
    "surrogate": "Mean of advantage times ratio, before the step.",
    "improvement": "What the step added to the mean of advantage times ratio.",
    "step_kl": "KL divergence of the step from the weights that drew the samples, in nats, mean over decisions.",
    "step_share": "The step that was taken, as a share of the longest allowed; 0: none.",
}
