"""How much a group of samples is believed: by what its prompt has earned before, or by the judge's own noise."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def group_moments(
    rewards: Float[Tensor, " batch"], group: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return for each sample the number of valid rewards of its group, their mean, and their variance (over n - 1).

    The mean of none is 0, and so is the variance of fewer than two.
    """
    index: Tensor = torch.unique(group, return_inverse=True)[1]
    known = torch.where(valid, rewards.double(), 0)

    def total(x: Tensor) -> Tensor:
        return torch.zeros_like(x).index_add(0, index, x)[index]

    count = total(valid.double())
    mean = total(known) / count.clamp(min=1)
    centred = torch.where(valid, known - mean, 0)
    return count, mean, total(centred.square()) / (count - 1).clamp(min=1)


def posterior_above(
    count: Float[Tensor, " batch"],
    mean: Float[Tensor, " batch"],
    variance: Float[Tensor, " batch"],
    prior: Float[Tensor, " batch"],
    prior_std: float,
) -> Float[Tensor, " batch"]:
    """Return p = P(mu > prior), the probability that a group's true mean lies above what its prompt earned before.

        v = 1 / (n / s^2 + 1 / v0),     m = v (n mean / s^2 + prior / v0),     p = Phi((m - prior) / sqrt(v))

    with v0 = prior_std^2 and s^2 the group's variance (+ 1e-8; 1 for a single sample). A shift of all rewards, prior
    included, changes nothing. It says that a group is better than before: not that its judge is any less noisy.
    Source: BPGO in TeleBoost's published code (`bgpo.py`), reliability-aware scaling; v0 is 1 there.
    """
    spread = torch.where(count > 1, variance + 1e-8, 1.0)
    v = 1 / (count / spread + 1 / prior_std**2)
    # m - prior, in difference form: rewards far from 0 lose nothing
    ahead = v * count * (mean - prior) / spread
    return (1 + torch.erf(ahead / v.sqrt() / math.sqrt(2))) / 2


def signal_share(variance: Float[Tensor, " batch"], noise_variance: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Return max(0, 1 - n^2 / s^2): the share of a group's variance s^2 that is not its judge's noise, n^2.

    Divided by its own standard deviation, a group whose samples differ by noise alone teaches as loudly as any.
    Source: the reliability of a test score (Spearman, 1904), of the samples of one prompt.
    """
    return (1 - noise_variance / variance.clamp(min=1e-300)).clamp(min=0)


def contrasted(
    rewards: Float[Tensor, " batch"], prior: Float[Tensor, " batch"], slope: float, temperature: float
) -> Float[Tensor, " batch"]:
    """Return a (R - R0) + sigmoid((R - R0) / tau): the reward, with a step added where it passes the prior.

    It grows with R and does not change where all rewards, prior included, are shifted; as tau falls to 0 it is the
    bracket of `contrasted_as_published`.
    """
    ahead = rewards - prior
    return slope * ahead + torch.sigmoid(ahead / temperature)


def contrasted_as_published(
    rewards: Float[Tensor, " batch"], prior: Float[Tensor, " batch"], slope: float, temperature: float
) -> Float[Tensor, " batch"]:
    """Return [a (R - R0) + 1{R > R0}] / (1 + exp(-R / tau)) R, the exponent clamped to +-30.

    It multiplies by R, and so is not invariant to a shift of the rewards; where they are negative it means something
    else: of two rewards below the prior, the lower may become the higher.
    Source: BPGO in TeleBoost's published code (`bgpo.py`), contrastive reward transform.
    """
    bracket = slope * (rewards - prior) + (rewards > prior).to(rewards)
    return bracket * torch.sigmoid((rewards / temperature).clamp(-30, 30)) * rewards
