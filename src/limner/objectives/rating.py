"""Worths of competitors from what was said of pairs, or from rankings, by maximum likelihood, with standard errors.

And the worth of those who said it: how sharply each tells two apart, from how far they agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from limner.objectives.choice import Ties, choice_loss, ranking_loss

Loss: TypeAlias = Callable[[Float[Tensor, " parameters"]], Float[Tensor, ""]]
FARTHEST = 30.0
"""Worths farther apart, in nats, are of votes that have no best ones."""
Z95 = 1.959963984540054
"""A normal variable lies within so many standard deviations in 95 % of cases."""


class Rating(NamedTuple):
    """Worths in nats, with mean 0, their standard errors and covariance; `tie` and its error where ties are modelled.

    95 % intervals are worth +- 1.96 standard errors.
    """

    worth: Float[Tensor, " competitors"]
    standard_error: Float[Tensor, " competitors"]
    covariance: Float[Tensor, "competitors competitors"]
    tie: float
    tie_error: float
    loss: float
    """Of all votes, in nats."""

    def interval(self, i: int) -> tuple[float, float]:
        """Return the ends of the 95 % interval of one worth."""
        middle, reach = float(self.worth[i]), Z95 * float(self.standard_error[i])
        return middle - reach, middle + reach

    def lead(self, i: int, j: int) -> tuple[float, float]:
        """Return by how much i leads j, and the standard error of that."""
        c = self.covariance
        return float(self.worth[i] - self.worth[j]), float((c[i, i] + c[j, j] - 2 * c[i, j]).clamp(min=0).sqrt())


def fit_pairs(
    first: Int[Tensor, " pairs"],
    second: Int[Tensor, " pairs"],
    votes: Float[Tensor, "pairs 3"],
    competitors: int,
    ties: Ties = "davidson",
    ridge: float = 0.0,
) -> Rating:
    """Return the worths under which votes (first, tie, second) of pairs are likeliest, by `choice_loss`.

    `ridge` / 2 x |(worth, tie)|^2 is added to the loss: a normal prior. Raises ValueError where the votes do not
    determine the worths: who was never beaten, or never met the others; or all are ties.
    """
    modelled = ties != "bradley_terry" and bool(votes[:, 1].sum() > 0)
    cast = votes.double()

    def loss(parameters: Float[Tensor, " parameters"]) -> Float[Tensor, ""]:
        worth = parameters[:competitors]
        tie = parameters[competitors] if modelled else parameters.new_tensor(-torch.inf)
        kind: Ties = ties if modelled else "bradley_terry"
        return choice_loss(worth[first] - worth[second], cast, kind, tie).sum()

    return _fitted(loss, competitors, modelled, ridge)


def fit_rankings(
    order: Int[Tensor, "rankings places"], ranked: Bool[Tensor, "rankings places"], competitors: int, ridge: float = 0.0
) -> Rating:
    """Return the worths under which orders, the best first, are likeliest, by `ranking_loss`; as `fit_pairs`."""

    def loss(parameters: Float[Tensor, " parameters"]) -> Float[Tensor, ""]:
        return ranking_loss(parameters[order], ranked).sum()

    return _fitted(loss, competitors, False, ridge)


def _fitted(
    likelihood: Loss,
    competitors: int,
    modelled: bool,
    ridge: float,
) -> Rating:
    """Minimise by Newton's method in float64, each step halved until it improves; the worths' mean is held at 0."""
    size = competitors + modelled

    def loss(parameters: Float[Tensor, " parameters"]) -> Float[Tensor, ""]:
        worth = parameters[:competitors]
        return likelihood(parameters) + ridge / 2 * parameters.square().sum() + worth.sum() ** 2 / (2 * competitors)

    at = torch.zeros(size, dtype=torch.float64)
    for _ in range(100):
        slope, curvature = _derivatives(loss, at)
        factor, failed = torch.linalg.cholesky_ex(curvature)
        if failed:
            break
        step = torch.cholesky_solve(slope[:, None], factor)[:, 0]
        if step.abs().max() <= 1e-8:
            break
        at = _downhill(loss, at, step)
    if bool(failed) or not at.isfinite().all() or at[:competitors].abs().max() > FARTHEST:
        raise ValueError("the votes do not determine the worths: give a ridge above 0")
    covariance = torch.cholesky_inverse(factor)
    # the direction of all worths together is held, not measured
    centre = torch.eye(competitors, dtype=torch.float64) - 1 / competitors
    worths = centre @ covariance[:competitors, :competitors] @ centre
    return Rating(
        at[:competitors],
        worths.diagonal().clamp(min=0).sqrt(),
        worths,
        float(at[-1]) if modelled else -torch.inf,
        float(covariance[-1, -1].sqrt()) if modelled else 0.0,
        float(likelihood(at)),
    )


LEADS = torch.linspace(-6, 6, 121, dtype=torch.float64)
"""Leads of pairs, in their own standard deviation, over which is summed; for a normal density that is exact enough."""
LOG_SHARE = (-LEADS.square() / 2).log_softmax(0)


class Sharpness(NamedTuple):
    """How sharply each person tells two apart: 0 a coin, below 0 the wrong way round; and the standard error."""

    value: Float[Tensor, " people"]
    standard_error: Float[Tensor, " people"]

    def right(self, i: int) -> tuple[float, float, float]:
        """Return how probably a person chooses the truly better one of such a pair, with its 95 % interval."""
        middle, reach = self.value[i], Z95 * self.standard_error[i]
        ends = torch.stack([middle, middle - reach, middle + reach])
        value, low, high = (torch.sigmoid(ends[:, None] * LEADS.abs()) * LOG_SHARE.exp()).sum(1).tolist()
        return value, low, high


def fit_people(
    pair: Int[Tensor, " votes"], person: Int[Tensor, " votes"], first: Float[Tensor, " votes"], people: int
) -> Sharpness:
    """Return how sharply people judge, from votes of several on the same pairs: 1 for the first, 0, or 1/2 for a tie.

    Noisy Bradley-Terry: of a pair whose first is better by z, a person k chooses it with probability
    sigmoid(gamma_k z). Nobody knows z, so it is summed over, z ~ N(0, 1), and gamma_k is in nats a standard deviation.
    A weak prior, gamma ~ N(1, 4), stands for what votes do not say: of two people alone they say gamma_1 gamma_2.

    Source: two-parameter item response (Birnbaum, 1968) of pairs, whose ability is the lead: the likelihood by hand.
    """

    def loss(gamma: Float[Tensor, " people"]) -> Float[Tensor, ""]:
        lead = gamma[person, None] * LEADS
        said = first[:, None] * logsigmoid(lead) + (1 - first[:, None]) * logsigmoid(-lead)
        together = said.new_zeros(int(pair.max()) + 1, len(LEADS)).index_add(0, pair, said)
        return -(together + LOG_SHARE).logsumexp(1).sum() + (gamma - 1).square().sum() / 8

    at = torch.ones(people, dtype=torch.float64)
    for _ in range(100):
        slope, curvature = _derivatives(loss, at)
        along, axes = torch.linalg.eigh(curvature)
        step = axes @ ((axes.T @ slope) / along.abs().clamp(min=1e-3))  # downhill, where the loss is no bowl too
        if step.abs().max() <= 1e-8:
            break
        at = _downhill(loss, at, step)
    return Sharpness(at, torch.linalg.inv(curvature).diagonal().clamp(min=0).sqrt())


def _downhill(loss: Loss, at: Float[Tensor, " parameters"], step: Float[Tensor, " parameters"]) -> Tensor:
    """Return where a step leads, which is halved until the loss is no greater there."""
    now = loss(at)
    for _ in range(30):
        if loss(at - step) <= now * (1 + 1e-12):
            break
        step = step / 2
    return at - step


def _derivatives(loss: Loss, at: Float[Tensor, " parameters"]) -> tuple[Tensor, Tensor]:
    """Return the gradient and the Hessian."""
    x = at.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(x), x, create_graph=True)
    rows = [torch.autograd.grad(each, x, retain_graph=True)[0] for each in slope]
    return slope.detach(), torch.stack(rows)
