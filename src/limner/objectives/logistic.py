"""From preferences to weights: Bradley-Terry with features, calibration of a score, and who contributed what.

Everything here is one model, P(y = 1) = sigmoid(features . weights): of a pair, with the difference of its features,
it is Bradley-Terry; of one score and a constant, Platt's calibration.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


class Logistic(NamedTuple):
    """A fitted logistic model: weights, one standard error each, and the mean loss of the data in nats.

    `standard_error` is the square root of the diagonal of the inverse Hessian: at ridge 0 the usual one (inverse Fisher
    information), else the standard deviation of the Gaussian that approximates the posterior (Laplace).
    """

    weights: Float[Tensor, " features"]
    standard_error: Float[Tensor, " features"]
    loss: Float[Tensor, ""]


class Calibration(NamedTuple):
    """P(good) = sigmoid(slope x score + offset)."""

    slope: float
    offset: float

    def __call__(self, score: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the probability of each score."""
        return torch.sigmoid(self.slope * score + self.offset)


def fit_logistic(
    features: Float[Tensor, "cases features"], target: Float[Tensor, " cases"], ridge: float = 0.0
) -> Logistic:
    """Return the weights w that minimise sum_i [log(1 + exp(z_i)) - y_i z_i] + ridge |w|^2 / 2, with z = features w.

    y in [0, 1] is the share of those who said yes. Newton's method in float64, each step halved until it improves.
    Raises ValueError for values that are not finite, y out of range, a negative ridge, and data that have no best
    weights at ridge 0: features that depend on each other, or that tell all answers without error.
    """
    x, y = features.double(), target.double()
    if not (x.isfinite().all() and bool(((y >= 0) & (y <= 1)).all())):
        raise ValueError("features must be finite and targets in [0, 1]")
    if ridge < 0 or len(x) == 0:
        raise ValueError(f"expected at least one case and a ridge of 0 or more, got {len(x)} and {ridge}")
    w, identity = x.new_zeros(x.shape[1]), torch.eye(x.shape[1], dtype=torch.float64)
    for _ in range(100):
        probability = torch.sigmoid(x @ w)
        gradient = x.T @ (probability - y) + ridge * w
        hessian = (x * (probability * (1 - probability))[:, None]).T @ x + ridge * identity
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if failed:
            break
        step = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
        moved = (x @ step).abs().max()
        if moved <= 1e-8:  # not by the gradient, which vanishes where answers are separable too
            loss = _loss(w - step, x, y, 0.0) / len(x)
            return Logistic(w - step, torch.cholesky_inverse(factor).diagonal().sqrt(), loss)
        w = w - _shortened(step, w, x, y, ridge)
    raise ValueError(f"{len(x)} cases do not determine the weights of {x.shape[1]} features: give a ridge above 0")


def fit_bradley_terry(
    difference: Float[Tensor, "pairs clauses"], won: Float[Tensor, " pairs"], ridge: float = 0.0
) -> Logistic:
    """Return the clause weights w of P(first preferred) = sigmoid(w . (clauses of first - clauses of second)).

    `won` is the share of votes for the first; a tie is 1/2. There is no constant, so swapping a pair changes nothing.
    Raises ValueError as `fit_logistic`. Source: Bradley and Terry, 1952; with features as in VisionReward,
    arXiv:2412.21059.
    """
    return fit_logistic(difference, won, ridge)


def fit_pair_calibration(
    difference: Float[Tensor, " pairs"], won: Float[Tensor, " pairs"], ridge: float = 0.0
) -> Calibration:
    """Return P(a person prefers the first) = sigmoid(slope x (score of first - score of second)), fitted; offset 0.

    1 / slope is the reward's own unit of preference: a lead of that much wins 73 % of votes.
    """
    return Calibration(float(fit_logistic(difference[:, None], won, ridge).weights), 0.0)


def fit_score_calibration(
    score: Float[Tensor, " cases"], good: Float[Tensor, " cases"], smooth: bool = True
) -> Calibration:
    """Return P(good) = sigmoid(slope x score + offset), fitted to whether people called each sample good (1 or 0).

    `smooth` fits to (n1 + 1) / (n1 + 2) for the n1 good ones and 1 / (n0 + 2) for the n0 others instead of 1 and 0, so
    that a perfect separation has finite weights. Scores are standardised for the fit, and the result is in their unit.
    Raises ValueError for scores that are all the same. Source: Platt, Probabilistic outputs for support vector
    machines, 1999, section 2.2.
    """
    s, y = score.double(), good.double()
    num_good = y.sum()
    if smooth:
        y = y * (num_good + 1) / (num_good + 2) + (1 - y) / (len(y) - num_good + 2)
    centre, spread = s.mean(), s.std(correction=0)
    if not spread > 0:
        raise ValueError("all scores are the same (or not finite): there is nothing to calibrate")
    slope, offset = fit_logistic(torch.stack([(s - centre) / spread, torch.ones_like(s)], 1), y).weights.tolist()
    return Calibration(slope / float(spread), offset - slope * float(centre / spread))


def attribution(
    weights: Float[Tensor, " clauses"], clauses: Float[Tensor, "batch clauses"], baseline: Float[Tensor, " clauses"]
) -> Float[Tensor, "batch clauses"]:
    """Return what each clause adds to the score w . (clauses - baseline): w_k (c_k - baseline_k); the rows sum to it.

    For a linear score with independent clauses these are its Shapley values relative to the baseline.
    """
    return weights * (clauses - baseline)


def _shortened(
    step: Float[Tensor, " features"],
    w: Float[Tensor, " features"],
    x: Float[Tensor, "cases features"],
    y: Float[Tensor, " cases"],
    ridge: float,
) -> Float[Tensor, " features"]:
    """Return the step, halved (up to 30 times) until the loss at w - step is not larger but for rounding."""
    most = _loss(w, x, y, ridge) * (1 + 1e-12)
    for _ in range(30):
        if _loss(w - step, x, y, ridge) <= most:
            break
        step = step / 2
    return step


def _loss(
    w: Float[Tensor, " features"], x: Float[Tensor, "cases features"], y: Float[Tensor, " cases"], ridge: float
) -> Float[Tensor, ""]:
    z = x @ w
    return (softplus(z) - y * z).sum() + ridge / 2 * (w @ w)
