"""How well votes on pairs fit worths that are known up to an error: what all members of an ensemble get wrong alike.

Members that are trained on the same votes share what these do not say, and their spread knows nothing of it. That a
picture is worth more, or less, than was said shows in all of its pairs at once; one pair a picture cannot show it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

NEWTON = 10
"""Steps to the mode: the function is concave, and its curvature nowhere changes much."""


def log_evidence(
    mean: Float[Tensor, " n"],
    std: Float[Tensor, " n"],
    pairs: Int[Tensor, "pairs 2"],
    votes: Float[Tensor, "pairs 2"],
    normal: Float[Tensor, "draws n"],
) -> Float[Tensor, ""]:
    """Return log E prod_ij sigmoid(u_i - u_j)^votes_ij sigmoid(u_j - u_i)^votes_ji, u ~ N(mean, std^2), in nats.

    The expectation is over `normal` draws, moved to where the product is large: about the mode, with the curvature
    there for a precision, each weighed by its density. Laplace's approximation alone, one draw at the mode, finds too
    small an error.

    Source: the Bradley-Terry model with random effects; Breslow and Clayton, JASA 88 (1993), for Laplace's, and Durbin
    and Koopman, Biometrika 84 (1997), for the draws about the mode.
    """
    mean, std, votes, normal = (each.double() for each in (mean, std, votes, normal))
    rows = torch.arange(len(pairs))
    design = torch.zeros(len(pairs), len(mean), dtype=torch.float64)
    design[rows, pairs[:, 0]], design[rows, pairs[:, 1]] = 1.0, -1.0
    precision, said = 1 / std.square(), votes.sum(1)
    error, curvature = torch.zeros_like(mean), torch.diag(precision)
    for _ in range(NEWTON):
        chance = torch.sigmoid(design @ (mean + error))
        slope = design.T @ (votes[:, 0] - said * chance) - precision * error
        curvature = design.T @ ((said * chance * (1 - chance))[:, None] * design) + torch.diag(precision)
        error = error + torch.linalg.solve(curvature, slope)
    root = torch.linalg.cholesky(curvature)
    drawn = error + torch.linalg.solve_triangular(root.T, normal.T, upper=True).T
    lead = (mean + drawn) @ design.T
    fit = (votes[:, 0] * logsigmoid(lead) + votes[:, 1] * logsigmoid(-lead)).sum(1)
    prior = (precision.log() - precision * drawn.square()).sum(1) / 2
    density = root.diagonal().log().sum() - normal.square().sum(1) / 2
    return torch.logsumexp(fit + prior - density, 0) - math.log(len(normal))
