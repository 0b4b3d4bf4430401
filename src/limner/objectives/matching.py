"""Forward-process losses: noise a finished sample again and learn from how well the network restores it."""

from __future__ import annotations

from typing import Literal, TypeAlias, assert_never

import torch
from jaxtyping import Float
from torch import Tensor

MatchingWeight: TypeAlias = Literal["uniform", "t", "t2", "huber", "ghuber"]


def velocity_mse(
    velocity: Float[Tensor, "batch *latent"],
    target: Float[Tensor, "batch *latent"],
    region: Float[Tensor, "batch *where"] | None = None,
) -> Float[Tensor, " batch"]:
    """Return the mean over the latent of (velocity - target)^2, per sample, each element times its number in `region`.

    With target = noise - x0 it is the flow-matching loss, with a frozen network's velocity the divergence from it.
    Source: SD3, arXiv:2403.03206, section 2; as a penalty: DiffusionNFT, arXiv:2509.16117, published code.
    """
    square = (velocity - target) ** 2
    return _latent_mean(square if region is None else region * square)


def elbo_weight(t: Float[Tensor, " batch"], noise_level: float = 0.7) -> Float[Tensor, " batch"]:
    """Return 1 / (2 S^2), S = noise_level sqrt(t / (1 - min(t, .99))), by which a squared distance is like a KL.

    S is the noise of Flow-GRPO's SDE. Source: AWM, arXiv:2509.25050, published code, its "ELBO" penalty.
    """
    return (1 - t.clamp(max=0.99)) / (2 * noise_level**2 * t)


def nft_reward_weight(advantage: Float[Tensor, " batch"], advantage_max: float = 5.0) -> Float[Tensor, " batch"]:
    """Return r = clip(A, -A_max, A_max) / (2 A_max) + 1/2, in [0, 1]: the share of a sample that counts as good.

    r = 1/2 is neutral: the loss then has its minimum at the old policy.
    Source: DiffusionNFT, arXiv:2509.16117, its optimality probability, with Z = A_max std as in the published code.
    """
    return advantage.clamp(-advantage_max, advantage_max) / (2 * advantage_max) + 0.5


def nft_loss(
    x0_hat: Float[Tensor, "batch *latent"],
    x0_hat_old: Float[Tensor, "batch *latent"],
    x0: Float[Tensor, "batch *latent"],
    reward_weight: Float[Tensor, " batch"],
    beta: float,
    advantage_max: float = 5.0,
    adaptive: bool = True,
    region: Float[Tensor, "batch *where"] | None = None,
) -> Float[Tensor, " batch"]:
    """Return (A_max / beta) (r l+ + (1 - r) l-), per sample: DiffusionNFT's loss in estimates of x0.

        x0+- = x0_old +- beta (x0_hat - x0_old)      an implicit good policy, and its mirror image, the bad one
        l+-  = mean (x0+- - x0)^2 / w+-              mean over the latent, each element times its number in `region`
        w+-  = max(mean |x0+- - x0|, 1e-5)           no gradient, in float64; 1 if not adaptive

    `x0_hat` and `x0_hat_old` are what the trained and the old network make of the same x_t, `x0` the finished sample;
    x0 = x_t - t v is linear in the velocity v, so this is the paper's mixture of velocities, its squares times t^2.
    With w = 1 the minimum is x0_hat = x0_old + (2 r - 1) (x0 - x0_old) / beta.

    Source: DiffusionNFT, arXiv:2509.16117, its policy loss with its adaptive loss weighting w; the factor
    A_max / beta is in the published code only.
    """
    moved = beta * (x0_hat - x0_hat_old.detach())
    good = _restoration_loss(x0_hat_old.detach() + moved, x0, adaptive, region)
    bad = _restoration_loss(x0_hat_old.detach() - moved, x0, adaptive, region)
    return advantage_max / beta * (reward_weight * good + (1 - reward_weight) * bad)


def _restoration_loss(
    x0_hat: Float[Tensor, "batch *latent"],
    x0: Float[Tensor, "batch *latent"],
    adaptive: bool,
    region: Float[Tensor, "batch *where"] | None,
) -> Float[Tensor, " batch"]:
    error = x0_hat - x0
    counted = 1.0 if region is None else region
    loss = _latent_mean(counted * error**2)
    if not adaptive:
        return loss
    wide = torch.float32 if error.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    weight = _latent_mean(counted * error.detach().to(wide).abs()).clamp(min=1e-5)
    return loss / weight.to(loss.dtype)


def _latent_mean(x: Float[Tensor, "batch *latent"]) -> Float[Tensor, " batch"]:
    """Mean over everything but the batch, in float32 or better."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x.reshape(x.shape[0], x.shape[1:].numel()).mean(dim=1)


def matching_log_likelihood(
    error: Float[Tensor, " batch"], t: Float[Tensor, " batch"], weighting: MatchingWeight, power: float = 0.25
) -> Float[Tensor, " batch"]:
    """Return a surrogate for the log-likelihood of a sample, from its flow-matching error m at time t, per element.

        uniform  -m         t  -t m         t2  -t^2 m
        huber    -t (sqrt(m + d) - sqrt(d))             d = 1e-10
        ghuber   -t ((m + d)^p - d^p) / p               p = `power`

    Minus an integral of weighted errors over t bounds log p(x0) from below up to a constant (the ELBO); the published
    losses take it for the log-probability in a policy gradient. The last two flatten large errors.
    Source: Advantage Weighted Matching, arXiv:2509.25050, section 4, and its published code.
    """
    tiny = 1e-10
    match weighting:
        case "uniform":
            return -error
        case "t":
            return -t * error
        case "t2":
            return -(t**2) * error
        case "huber":
            return -t * ((error + tiny).sqrt() - tiny**0.5)
        case "ghuber":
            return -t * ((error + tiny) ** power - tiny**power) / power
        case _:
            assert_never(weighting)
