"""How two sets of samples differ: the log of the ratio of their densities, and a distance that needs no training.

A discriminator that tells a reference p from samples q without error in its probabilities says log p(x) / q(x); its
mean over q is -KL(q || p), so as a reward it stands where a KL to the reference would, and asks for no density of
either. It is logistic regression on x and all products of two of its numbers: exact where both are Gaussian.

    log p(x) / q(x) = w . phi(x) - log(n_p / n_q),    phi(x) = (1, z_i, z_i z_j),    z = (x - mean_p) / std_p
    MMD^2 = E k(p, p') + E k(q, q') - 2 E k(p, q),    k(x, y) = exp(-|x - y|^2 / (2 width^2)) of z

Source: Goodfellow et al., arXiv:1406.2661, proposition 1; Gretton et al., JMLR 13 (2012) 723, eq. 3 (unbiased).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limner.objectives.logistic import fit_logistic


def fit_ratio(
    reference: Float[Tensor, "known numbers"], made: Float[Tensor, "batch numbers"], ridge: float
) -> Float[Tensor, " features"]:
    """Return the weights of a discriminator of `reference` from `made`, with ridge |w|^2 / 2 on its loss in nats."""
    phi = torch.cat([_features(reference, reference), _features(made, reference)])
    target = torch.cat([torch.ones(len(reference)), torch.zeros(len(made))])
    weights = fit_logistic(phi, target, ridge).weights
    weights[0] -= math.log(len(reference) / len(made))
    return weights


def log_density_ratio(
    x: Float[Tensor, "batch numbers"], reference: Float[Tensor, "known numbers"], weights: Float[Tensor, " features"]
) -> Float[Tensor, " batch"]:
    """Return log p(x) / q(x), by the `weights` that were fitted with that reference."""
    return _features(x, reference) @ weights


def discrepancy(
    x: Float[Tensor, "batch numbers"], reference: Float[Tensor, "known numbers"]
) -> Float[Tensor, " batch"]:
    """Return what each sample adds to MMD^2 from `reference`: the mean is MMD^2, and the rest its first variation.

        2 mean_j k(x_i, x_j) - 2 mean_r k(x_i, r) + mean k(r, r') - mean k(x, x')

    The width is the median distance of the reference. Raises ValueError for fewer than two samples of either.
    """
    if min(len(x), len(reference)) < 2:
        raise ValueError(f"expected two samples or more of each, got {len(x)} and {len(reference)}")
    made, known = _standardised(x, reference), _standardised(reference, reference)
    within = torch.pdist(known)
    scale = 2 * within.median().square().clamp(min=1e-12)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() / scale)

    own = (kernel(made, made).sum(1) - 1) / (len(made) - 1)
    across = kernel(made, known).mean(1)
    return 2 * (own - across) + torch.exp(-within.square() / scale).mean() - own.mean()


def _standardised(
    x: Float[Tensor, "batch numbers"], reference: Float[Tensor, "known numbers"]
) -> Float[Tensor, "batch numbers"]:
    """Return x in standard deviations of the reference from its mean; numbers that are alike there keep their scale."""
    spread = reference.double().std(0, correction=0)
    return (x.double() - reference.double().mean(0)) / torch.where(spread > 0, spread, 1.0)


def _features(
    x: Float[Tensor, "batch numbers"], reference: Float[Tensor, "known numbers"]
) -> Float[Tensor, "batch features"]:
    z = _standardised(x, reference)
    first, second = torch.triu_indices(z.shape[1], z.shape[1])
    return torch.cat([torch.ones(len(z), 1, dtype=z.dtype), z, z[:, first] * z[:, second]], 1)
