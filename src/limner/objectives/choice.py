"""What people choose, given what things are worth: the likelihoods by which a worth, or a network of it, is learned.

Of two things one leads the other by `lead`, the difference of their worths in nats, and is chosen with probability
sigmoid(lead). `votes` are how many, or what shares, said of a pair: the first, a tie, the second.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, TypeAlias, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

Ties: TypeAlias = Literal["bradley_terry", "rao_kupper", "davidson"]
"""How ties come about: not at all (each is half a vote for both sides), by a threshold, or by likeness."""
FAR = -1e9
"""The worth of what is not there: its share of a sum is 0, and no gradient of it is undefined."""
NODES = 20
"""Points of the quadrature that averages over an uncertain lead."""


def log_outcomes(lead: Float[Tensor, "*pairs"], ties: Ties, tie: Float[Tensor, ""]) -> Float[Tensor, "*pairs 3"]:
    """Return the log-probabilities that people say: the first, a tie, the second.

        bradley_terry  sigmoid(l), sigmoid(-l); a tie is scored as half of either, and `tie` is not asked
        rao_kupper     sigmoid(l - h), (e^{2h} - 1) sigmoid(l - h) sigmoid(-l - h), sigmoid(-l - h); h = softplus(tie)
        davidson       e^{l/2}, e^{tie}, e^{-l/2}, over their sum

    l is the lead. Rao and Kupper's theta is e^h > 1, the lead that is not noticed; Davidson's nu is e^{tie}.

    Source: Bradley and Terry, Biometrika 39 (1952); Rao and Kupper, JASA 62 (1967), eq. 2.1; Davidson, JASA 65 (1970),
    eq. 2.3. VideoReward, arXiv:2501.13918, has Rao and Kupper's with theta = 5.
    """
    match ties:
        case "bradley_terry":
            first, second = logsigmoid(lead), logsigmoid(-lead)
            between = (first + second) / 2
        case "rao_kupper":
            h = softplus(tie)
            first, second = logsigmoid(lead - h), logsigmoid(-lead - h)
            between = first + second + torch.log(torch.expm1(2 * h))
        case "davidson":
            odds = torch.stack([lead / 2, tie.expand_as(lead), -lead / 2], -1)
            return odds - odds.logsumexp(-1, keepdim=True)
        case _:
            assert_never(ties)
    return torch.stack([first, between, second], -1)


def choice_loss(
    lead: Float[Tensor, " pairs"], votes: Float[Tensor, "pairs 3"], ties: Ties, tie: Float[Tensor, ""]
) -> Float[Tensor, " pairs"]:
    """Return -sum votes x log-probability of each pair, in nats."""
    return -(votes * log_outcomes(lead, ties, tie)).sum(-1)


def uncertain_choice_loss(
    lead: Float[Tensor, " pairs"],
    variance: Float[Tensor, " pairs"],
    votes: Float[Tensor, "pairs 3"],
    ties: Ties,
    tie: Float[Tensor, ""],
) -> Float[Tensor, " pairs"]:
    """Return the expectation of `choice_loss` over a lead that is normal about `lead`.

    E f(z), z ~ N(lead, variance), by Gauss and Hermite's quadrature with `NODES` points. Source: HPSv3,
    arXiv:2508.03789, section 4.2, whose worths are Gaussian, so that the lead's variance is the sum of both. Deviation:
    its code averages 1,000 draws.
    """
    points, weights = (each.to(lead) for each in _normal_quadrature())
    z = lead[:, None] + variance.sqrt()[:, None] * points
    expected = (log_outcomes(z, ties, tie) * weights[:, None]).sum(1)
    return -(votes * expected).sum(-1)


def discounted(lead: Float[Tensor, " pairs"], variance: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    """Return the lead that, were it sure, would be chosen as often as one that is normal about `lead`, in nats.

        log E sigmoid(z) - log E sigmoid(-z),        z ~ N(lead, variance)

    By the quadrature of `uncertain_choice_loss`. It has the lead's sign, and is nearer to 0: who is unsure of a lead
    foretells less by it. Source: MacKay, Neural Computation 4 (1992), whose moderated output approximates it.
    """
    points, weights = (each.to(lead) for each in _normal_quadrature())
    z = lead[:, None] + variance.sqrt()[:, None] * points
    log_first, log_second = ((logsigmoid(each) + weights.log()).logsumexp(1) for each in (z, -z))
    return log_first - log_second


def ranking_loss(
    worth: Float[Tensor, "rankings places"], ranked: Bool[Tensor, "rankings places"]
) -> Float[Tensor, " rankings"]:
    """Return -log P of orders, the best first: sum_i log sum_{j >= i} e^{w_j - w_i}; what is not `ranked` is padding.

    Source: Plackett, The analysis of permutations, Applied Statistics 24 (1975); Luce, 1959. Of two it is Bradley and
    Terry's.
    """
    later = torch.ones(worth.shape[1], worth.shape[1], dtype=torch.bool).triu()
    kept = worth.masked_fill(~ranked, FAR)[:, None, :].masked_fill(~later, FAR)
    return torch.where(ranked, kept.logsumexp(2) - worth, 0.0).sum(1)


def rating_loss(worth: Float[Tensor, " batch"], liked: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Return -[y log sigmoid(w) + (1 - y) log sigmoid(-w)], least at sigmoid(w) = y.

    y in [0, 1] is how good a thing alone was said to be: a like, or the place of a rating on its scale.
    """
    return softplus(worth) - liked * worth


def contrast_loss(worth: Float[Tensor, "pictures texts"]) -> Float[Tensor, " pictures"]:
    """Return -log softmax of each picture's first column: its own text, beside texts that it was not made for.

    Source: the in-batch negatives of PickScore, arXiv:2305.01569, and its published code. Deviation: only the texts are
    exchanged, not the pictures.
    """
    return worth.logsumexp(1) - worth[:, 0]


def disagreement(lead: Float[Tensor, "members pairs"]) -> Float[Tensor, " pairs"]:
    """Return what a vote is expected to tell of which member of an ensemble is right, in nats, from 0 to log 2.

        I(vote; member) = H(mean_m p_m) - mean_m H(p_m),        p_m = sigmoid(lead of member m)

    H is the entropy of one bit's probability: where members disagree, and each is sure, a vote tells most.

    Source: BALD, arXiv:1112.5745, eq. 2, over an ensemble.
    """
    surprise = softplus(-lead) * torch.sigmoid(lead) + softplus(lead) * torch.sigmoid(-lead)
    chance = torch.stack([torch.sigmoid(lead).mean(0), torch.sigmoid(-lead).mean(0)])
    return torch.special.entr(chance).sum(0) - surprise.mean(0)


@cache
def _normal_quadrature() -> tuple[Float[Tensor, " nodes"], Float[Tensor, " nodes"]]:
    """Return points and weights, whose sum is 1, of Gauss' quadrature for a standard normal variable.

    The points are the eigenvalues of the Jacobi matrix of Hermite's polynomials, whose off-diagonal is sqrt(k), and the
    weights the squares of the eigenvectors' first components. Source: Golub and Welsch, Math. Comp. 23 (1969).
    """
    beside = torch.arange(1, NODES, dtype=torch.float64).sqrt()
    points, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return points, vectors[0].square()
