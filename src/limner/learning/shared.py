"""What hyper-parameters mean that several algorithms share: `limner keys` says it where a class says nothing itself."""

from __future__ import annotations

from collections.abc import Mapping

SHARED: Mapping[str, str] = {
    "scale": "What the advantage is divided by: the standard deviation of the group, of the whole batch, or nothing.",
    "ddof": "Degrees of freedom that the standard deviation leaves out: 0 divides by n, 1 by n - 1.",
    "epsilon": "What is added to the standard deviation before it divides.",
    "trim": "Share of each group, the worst, that mean and standard deviation leave out.",
    "advantage_max": "What the absolute advantage of a sample is cut to.",
    "clip_low": "How far a bad decision may become less likely: the ratio's distance below 1 at which it is clipped.",
    "clip_high": "How far a good decision may become more likely: the ratio's distance above 1 at which it is clipped.",
    "clip_elements": "Elements of the latent that the range was tuned for; for D elements it is scaled by this over D.",
    "kl_weight": "Weight of the penalty for moving away from the frozen base; 0: none, and no base is kept.",
    "num_updates": "Optimizer steps that a rollout is split over.",
    "num_times": "Times at which a finished sample is noised again, for each update.",
    "times": 'Where those times are drawn: from the grid of the sampler, or (shifted) "logit_normal".',
    "min_time": "The least noisy of those times, as a share of the axis.",
    "decay_rate": "How much closer the old policy stays in each iteration, where it follows at a distance.",
    "decay_max": "The most of the old policy that is kept in an iteration.",
    "noise_level": "The strength of the noise, a in the formula.",
    "eta": "The strength of the noise, as in the formula.",
}
"""Meaning by name of the field."""
