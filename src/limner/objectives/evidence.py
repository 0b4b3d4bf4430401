"""How well votes on pairs fit worths that are known up to an error: what all members of an ensemble get wrong alike.

Members that are trained on the same votes share what these do not say, and their spread knows nothing of it. That a
picture is worth more, or less, than was said shows in all of its pairs at once; one pair a picture cannot show it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

NEWTON = 10
"""Steps to the mode: the function is concave, and its curvature nowhere changes much."""


def log_evidence(
    mean: Float[Tensor, "*lots n"],
    std: Float[Tensor, "*lots n"],
    pairs: Int[Tensor, "*lots pairs 2"],
    votes: Float[Tensor, "*lots pairs 2"],
    normal: Float[Tensor, "draws n"],
) -> Float[Tensor, "*lots"]:
    """Return log E prod_ij sigmoid(u_i - u_j)^votes_ij sigmoid(u_j - u_i)^votes_ji, u ~ N(mean, std^2), in nats.

    The expectation is over `normal` draws, moved to where the product is large: about the mode, with the curvature
    there for a precision, each weighed by its density. Laplace's approximation alone, one draw at the mode, finds too
    small an error. Lots of equally many things and pairs are done at once, each by the same draws.

    Source: the Bradley-Terry model with random effects; Breslow and Clayton, JASA 88 (1993), for Laplace's, and Durbin
    and Koopman, Biometrika 84 (1997), for the draws about the mode.
    """
    mean, std, votes, normal = (each.double() for each in (mean, std, votes, normal))
    first, second = one_hot(pairs, mean.shape[-1]).double().unbind(-2)
    design = first - second
    precision, said = 1 / std.square(), votes.sum(-1)
    error, curvature = torch.zeros_like(mean), torch.diag_embed(precision)
    for _ in range(NEWTON):
        chance = torch.sigmoid(_times(design, mean + error))
        slope = _times(design.mT, votes[..., 0] - said * chance) - precision * error
        curvature = design.mT @ ((said * chance * (1 - chance))[..., None] * design) + torch.diag_embed(precision)
        error = error + torch.linalg.solve(curvature, slope)
    root = torch.linalg.cholesky(curvature)
    drawn = error[..., None, :] + torch.linalg.solve_triangular(root.mT, normal.T, upper=True).mT
    lead = (mean[..., None, :] + drawn) @ design.mT
    fit = (votes[..., None, :, 0] * logsigmoid(lead) + votes[..., None, :, 1] * logsigmoid(-lead)).sum(-1)
    prior = (precision.log()[..., None, :] - precision[..., None, :] * drawn.square()).sum(-1) / 2
    density = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)[..., None] - normal.square().sum(-1) / 2
    return torch.logsumexp(fit + prior - density, -1) - math.log(len(normal))


def _times(matrix: Float[Tensor, "*lots rows columns"], vector: Float[Tensor, "*lots columns"]) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]
