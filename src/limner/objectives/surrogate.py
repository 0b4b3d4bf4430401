"""Policy-gradient surrogates: losses whose gradient is that of the expected reward, near the weights that sampled."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def clipped_surrogate(
    log_ratio: Float[Tensor, "*decisions"],
    advantage: Float[Tensor, "*decisions"],
    clip_low: float,
    clip_high: float,
    pessimistic: bool = True,
) -> Float[Tensor, "*decisions"]:
    """Return max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) per decision, with rho = exp(log_ratio).

    Not `pessimistic`, it is -A clip(rho) alone (DPOK, arXiv:2305.16381, published code): no gradient outside the band,
    not even back into it.

    The clip is done on the logarithm, log(1 - clip_low) <= log_ratio <= log(1 + clip_high): the same band, but a clip
    range of 1e-5 is only some hundred float32 steps around a ratio of 1. 0 <= clip_low < 1; clip_high = inf is no clip.

    `log_ratio` comes as the algorithm means it: in nats for tokens, in nats per latent element for DDPO and its heirs,
    whose clip range of 1e-4 means that; dividing by the latent's size is the algorithm's business and visible there.

    Source: PPO, arXiv:1707.06347, eq. 7; DDPO, arXiv:2305.13301, section 4.3 (DDPO-IS); Flow-GRPO, arXiv:2505.05470.
    """
    clipped = log_ratio.clamp(math.log1p(-clip_low), math.log1p(clip_high))
    bounded = -advantage * clipped.exp()
    return torch.maximum(-advantage * log_ratio.exp(), bounded) if pessimistic else bounded


def trusted_surrogate(
    log_ratio: Float[Tensor, "*decisions"],
    advantage: Float[Tensor, "*decisions"],
    divergence: Float[Tensor, "*decisions"],
    limit: float,
) -> Float[Tensor, "*decisions"]:
    """Return -A rho per decision, and 0 where the step has left the trust region and would go on.

    That is where `divergence` >= `limit` and rho has moved the way A asks for: above 1 where A > 0, below where A < 0.
    The divergence decides and has no gradient; unlike a ratio it does not depend on which noise was drawn.
    Source: Flow-DPPO, as published in its code; DPPO's mask by exact divergence in place of PPO's by ratio.
    """
    onward = advantage * log_ratio.detach() > 0
    inside = ~(onward & (divergence.detach() >= limit))
    return -advantage * log_ratio.exp() * inside


def praise_and_blame(
    advantage: Float[Tensor, "batch *latent"],
) -> list[tuple[Float[Tensor, " batch"], Float[Tensor, "batch *latent"]]]:
    """Return what of advantages over a latent is praise, and what is blame: an amount a each, and a weight w of mean 1.

        A = a+ w+ + a- w-,      a+ = mean max(A, 0),      a- = mean min(A, 0)

    so that a loss of a decision may be that of its praised and of its blamed part: each one ratio, the elements of
    which count w times. Where A is the same everywhere there is one part, with w = 1, and the loss is that of a scalar
    advantage; in general, at a ratio of 1, its value is -mean A and its gradient that of -mean A(p) log_ratio(p).
    A part that no decision has is left out; where a decision lacks one of two, a = 0.
    """
    parts = []
    for part in (advantage.clamp(min=0), advantage.clamp(max=0)):
        amount = part.flatten(1).mean(1)
        divisor = torch.where(amount == 0, 1, amount).view(-1, *(1,) * (part.ndim - 1))
        parts.append((amount, part / divisor))
    return [each for each in parts if each[0].any()] or parts[:1]


def k3(log_ratio: Float[Tensor, "*decisions"]) -> Float[Tensor, "*decisions"]:
    """Return rho - 1 - log rho, rho = p_reference / p: never negative, and on average over p KL(p || reference).

    Source: k3 of http://joschu.net/blog/kl-approx.html, the penalty of GRPO, arXiv:2402.03300, eq. 4.
    """
    return log_ratio.expm1() - log_ratio


def surrogate_metrics(
    log_ratio: Float[Tensor, "*decisions"],
    advantage: Float[Tensor, "*decisions"],
    clip_low: float,
    clip_high: float,
) -> dict[str, Float[Tensor, "*decisions"]]:
    """Return per-decision health of the clip, to be averaged as the loss is; without gradient.

    `clip_low` is 1 where A < 0 and rho < 1 - clip_low, `clip_high` where A > 0 and rho > 1 + clip_high: there the loss
    is flat. `approx_kl` is log_ratio^2 / 2, the second-order estimate of KL(old || new) in the unit of log_ratio (for a
    log-ratio per element of D elements it is KL / D^2).

    Source: k2 of http://joschu.net/blog/kl-approx.html, as logged by DDPO's code, arXiv:2305.13301.
    """
    log_ratio = log_ratio.detach()
    low = (advantage < 0) & (log_ratio < math.log1p(-clip_low))
    high = (advantage > 0) & (log_ratio > math.log1p(clip_high))
    return {
        "clip_low": low.to(log_ratio.dtype),
        "clip_high": high.to(log_ratio.dtype),
        "approx_kl": log_ratio**2 / 2,
    }
