"""Losses of preferences: of two samples of one prompt which is better, or of one whether it is wanted.

Likelihoods of diffusion models are not known, so an error of restoration stands for minus the log-likelihood: with l
the error of the trained network on a noised sample, averaged over its elements, and l_ref that of the reference,

    gap = (l^w - l_ref^w) - (l^l - l_ref^l),

of the better sample w and the worse one l at the same noise and time. It is 0 at first, and below 0 where the better
one has gained: minus a constant times it is the difference of the implicit rewards.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

PairLoss: TypeAlias = Literal["sigmoid", "hinge", "ipo", "calibrated"]
Utility: TypeAlias = Literal["sigmoid", "loss_averse", "risk_seeking"]


def pair_loss(
    gap: Float[Tensor, " pairs"], margin: Float[Tensor, " pairs"], beta: float, kind: PairLoss = "sigmoid"
) -> Float[Tensor, " pairs"]:
    """Return the loss of each pair, by its gap.

        sigmoid     -log sigmoid(-beta gap / 2)      Diffusion-DPO; log 2 at first
        hinge       max(0, 1 + beta gap)             SLiC
        ipo         (-gap - 1 / (2 beta))^2          IPO: the implicit rewards are to differ by so much and no more
        calibrated  (margin + beta gap / 2)^2        CaPO: by as much as the calibrated rewards do, the `margin`

    Source: Diffusion-DPO, arXiv:2311.12908, eq. 14, with the factor 1/2 of its published code, which takes the place of
    T omega(lambda_t) and of the sum over elements; hinge and ipo as in diffusers' example of it, which has no 1/2;
    CaPO, arXiv:2502.02588, of which no code was published: the 1/2 is that of the first.
    """
    match kind:
        case "sigmoid":
            return -logsigmoid(-beta / 2 * gap)
        case "hinge":
            return (1 + beta * gap).clamp(min=0)
        case "ipo":
            return (gap + 1 / (2 * beta)) ** 2
        case "calibrated":
            return (margin + beta / 2 * gap) ** 2
        case _:
            assert_never(kind)


def kto_loss(
    gain: Float[Tensor, " batch"],
    wanted: Bool[Tensor, " batch"],
    baseline: Float[Tensor, " batch"],
    beta: float,
    utility: Utility = "sigmoid",
) -> Float[Tensor, " batch"]:
    """Return 1 - h of each sample, with u = y beta (gain - baseline), y = 1 where it is wanted and -1 where it is not.

        sigmoid  h = sigmoid(u)      loss_averse  h = log sigmoid(u)      risk_seeking  h = -log sigmoid(-u)

    `gain` is l_ref - l, how much better a sample is restored than by the reference, and `baseline` what counts as none.
    Source: Diffusion-KTO, arXiv:2404.04465, section 4, and its published code.
    """
    u = torch.where(wanted, 1, -1) * beta * (gain - baseline)
    match utility:
        case "sigmoid":
            return 1 - torch.sigmoid(u)
        case "loss_averse":
            return 1 - logsigmoid(u)
        case "risk_seeking":
            return 1 + logsigmoid(-u)
        case _:
            assert_never(utility)


def margin_loss(
    better: Float[Tensor, " pairs"], worse: Float[Tensor, " pairs"], beta: float, scale: float, kappa: float
) -> Float[Tensor, " pairs"]:
    """Return l^w - beta log sigmoid(scale (phi(l^w) - phi(l^l))), phi(l) = kappa l / (e^(kappa l) - 1).

    The errors are the trained network's alone: no reference is asked. phi falls from 1 at an error of 0.
    Source: MaPO, arXiv:2406.06424, and its published code (`scale` is its number of training times, 1,000).
    """
    return better - beta * logsigmoid(scale * (odds(better, kappa) - odds(worse, kappa)))


def odds(error: Float[Tensor, "*batch"], kappa: float) -> Float[Tensor, "*batch"]:
    """Return kappa l / (e^(kappa l) - 1), without cancellation where l is small; 1 at 0."""
    x = kappa * error
    small = x.abs() < 1e-6
    return torch.where(small, 1 - x / 2, x / torch.expm1(torch.where(small, 1.0, x)))


def tilted_score_loss(
    new: Float[Tensor, "pairs *latent"],
    reference: Float[Tensor, "pairs *latent"],
    target: Float[Tensor, "pairs *latent"],
    gap: Float[Tensor, " pairs"],
    beta: float,
    region: Float[Tensor, "pairs *where"] | None = None,
) -> Float[Tensor, " pairs"]:
    """Return |(new - target) - beta w (new - reference)|^2 / D of the better samples, w = 1 - sigmoid(-beta gap / 2).

    What the trained and the frozen network predict of a better sample, and what a perfect one would. w has a gradient.
    Each element's square is times its number in `region`, as those are that the gap is made of.
    Source: DSPO (ICLR 2025), published code: the score is matched to that of the density which preferences tilt.
    """
    weight = beta * torch.sigmoid(beta / 2 * gap)
    square = (new - target - weight.view(-1, *[1] * (new.ndim - 1)) * (new - reference)).square()
    return (square if region is None else region * square).reshape(len(new), -1).mean(1)


def path_pair_loss(
    better: Float[Tensor, " pairs"], worse: Float[Tensor, " pairs"], beta: float, clip: float
) -> Float[Tensor, " pairs"]:
    """Return -log sigmoid(beta (u^w - u^l)), u = log clip(rho, 1 - clip, 1 + clip), of decisions' log-ratios log rho.

    `better` and `worse` are log-ratios to the reference, per element. A clipped one has no gradient.
    Source: D3PO, arXiv:2311.13231, eq. 12; SPO, arXiv:2406.04314; their published codes.
    """
    low, high = torch.tensor([1 - clip, 1 + clip]).log().tolist()
    return -logsigmoid(beta * (better.clamp(low, high) - worse.clamp(low, high)))
