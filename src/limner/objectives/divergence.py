"""How far a policy has moved from its reference, as a penalty that can be differentiated."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def step_kl(
    mean: Float[Tensor, "batch *latent"],
    reference_mean: Float[Tensor, "batch *latent"],
    std: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Return KL = |mean - reference_mean|^2 / (2 std^2) of one denoising step, in nats, summed over the latent.

    `std` is the transition's own, S sqrt(h) for a flow SDE: Flow-GRPO's published code divides by 2 S^2 instead and by
    the latent's size D, so its penalty is h / D times this one, and its weight of 0.04 belongs to that. `Gaussian.kl`
    is the general case, with two different std.

    Source: Flow-GRPO, arXiv:2505.05470, its KL penalty.
    """
    distance = (mean - reference_mean).to(torch.promote_types(mean.dtype, torch.float32)) ** 2
    return distance.reshape(mean.shape[0], mean.shape[1:].numel()).sum(dim=1) / (2 * std**2)


def k3(log_ratio: Float[Tensor, "*decisions"]) -> Float[Tensor, "*decisions"]:
    """Return exp(l) - 1 - l, an unbiased KL(pi || reference); l = log pi_reference - log pi at a token drawn from pi.

    In nats, never negative, and of less variance than -l. Biased if other weights than pi's drew the token.
    Source: http://joschu.net/blog/kl-approx.html, k3; GRPO, arXiv:2402.03300, eq. 4.
    """
    return torch.expm1(log_ratio) - log_ratio
