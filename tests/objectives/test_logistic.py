"""Weights from preferences: closed forms, finite differences, planted parameters, and data that determine nothing."""

from __future__ import annotations

import math

import pytest
import torch

from limner.objectives.logistic import (
    Calibration,
    _shortened,
    attribution,
    fit_bradley_terry,
    fit_logistic,
    fit_pair_calibration,
    fit_score_calibration,
)


def logit(p):
    return math.log(p / (1 - p))


def cases(*rows):
    """Features and answers from rows (features, number of yes, number of no)."""
    features = [list(x) for x, yes, no in rows for _ in range(yes + no)]
    answers = [y for _, yes, no in rows for y in [1.0] * yes + [0.0] * no]
    return torch.tensor(features, dtype=torch.float64), torch.tensor(answers, dtype=torch.float64)


def total(w, x, y, ridge):
    """The loss by its definition: -log of each answer's probability, and the prior."""
    p = 1 / (1 + (-(x @ w)).exp())
    return -(y * p.log() + (1 - y) * (1 - p).log()).sum() + ridge / 2 * (w * w).sum()


def random_cases(n, weights, seed=0):
    generator = torch.Generator().manual_seed(seed)
    w = torch.tensor(weights, dtype=torch.float64)
    x = torch.randn(n, len(w), generator=generator, dtype=torch.float64)
    return x, torch.bernoulli(torch.sigmoid(x @ w), generator=generator)


def test_clauses_that_differ_alone_have_the_log_odds_of_their_wins():
    x, won = cases(((1, 0), 80, 20), ((0, 1), 30, 70))
    fitted = fit_bradley_terry(x, won)
    torch.testing.assert_close(fitted.weights, torch.tensor([logit(0.8), logit(0.3)]).double())
    errors = [(100 * 0.8 * 0.2) ** -0.5, (100 * 0.3 * 0.7) ** -0.5]
    torch.testing.assert_close(fitted.standard_error, torch.tensor(errors).double())
    entropy = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.8, 0.3)]
    assert float(fitted.loss) == pytest.approx(sum(entropy) / 2, rel=1e-12)


def test_two_clauses_that_differ_together():
    """P1 = sigmoid(a), P2 = sigmoid(a + b): as many weights as kinds of pairs, so both are met exactly."""
    x, won = cases(((1, 0), 60, 40), ((1, 1), 90, 10))
    fitted = fit_bradley_terry(x, won)
    torch.testing.assert_close(fitted.weights, torch.tensor([logit(0.6), logit(0.9) - logit(0.6)]).double())
    error = ((100 * 0.6 * 0.4) ** -1 + (100 * 0.9 * 0.1) ** -1) ** 0.5
    assert float(fitted.standard_error[1]) == pytest.approx(error, rel=1e-9)


def test_a_tie_is_half_a_win_each_and_swapping_changes_nothing():
    x, won = cases(((1, 0.5), 7, 3), ((-1, 2), 2, 5))
    swapped = torch.arange(len(won)) % 2 == 0
    flipped = fit_bradley_terry(torch.where(swapped[:, None], -x, x), torch.where(swapped, 1 - won, won))
    torch.testing.assert_close(flipped.weights, fit_bradley_terry(x, won).weights)
    ties = fit_bradley_terry(torch.cat([x, x]), torch.cat([won, torch.full_like(won, 0.5)]))
    both = fit_bradley_terry(torch.cat([x, x, x]), torch.cat([won, torch.ones_like(won), torch.zeros_like(won)]))
    assert torch.equal(torch.sign(ties.weights), torch.sign(both.weights))
    one = fit_bradley_terry(torch.tensor([[1.0]]), torch.tensor([0.75]))
    assert float(one.weights) == pytest.approx(math.log(3))


@pytest.mark.parametrize("ridge", [0.0, 2.5])
def test_the_optimum_and_its_curvature_by_finite_differences(ridge):
    x, y = random_cases(60, [0.7, -1.2, 0.2])
    fitted = fit_logistic(x, y, ridge)
    w, h = fitted.weights, 1e-4
    steps = h * torch.eye(3, dtype=torch.float64)

    def f(v):
        return float(total(v, x, y, ridge))

    slope = [(f(w + e) - f(w - e)) / (2 * h) for e in steps]
    assert max(map(abs, slope)) < 1e-6
    second = [[(f(w + a + b) - f(w + a - b) - f(w - a + b) + f(w - a - b)) / (4 * h * h) for a in steps] for b in steps]
    errors = torch.linalg.inv(torch.tensor(second).double()).diagonal().sqrt()
    torch.testing.assert_close(fitted.standard_error, errors, rtol=1e-5, atol=0)
    assert float(fitted.loss) == pytest.approx(float(total(w, x, y, 0.0)) / 60, rel=1e-12)
    assert all(f(w + 0.01 * torch.randn(3).double()) > f(w) for _ in range(20))


def test_a_ridge_makes_one_victory_finite():
    """One pair that was won: ridge w = 1 - sigmoid(w)."""
    fitted = fit_bradley_terry(torch.tensor([[1.0]]), torch.tensor([1.0]), ridge=0.1)
    w = float(fitted.weights)
    assert 0.1 * w == pytest.approx(1 - 1 / (1 + math.exp(-w)), rel=1e-9) and 1.5 < w < 2.5
    never = fit_bradley_terry(torch.tensor([[1.0, 0.0]]), torch.tensor([1.0]), ridge=0.1)
    assert float(never.weights[1]) == 0 and float(never.standard_error[1]) == pytest.approx(0.1**-0.5)


def test_planted_weights_come_back_with_honest_errors():
    planted = [1.5, -0.8, 0.0, 0.4]
    fits = [fit_bradley_terry(*random_cases(4000, planted, seed)) for seed in range(20)]
    off = torch.stack([fit.weights for fit in fits]) - torch.tensor(planted).double()
    errors = torch.stack([fit.standard_error for fit in fits])
    assert float(off.mean(0).abs().max()) < 0.05 and float(off.abs().max()) < 0.2
    inside = float((off.abs() < 1.96 * errors).double().mean())
    assert 0.85 < inside <= 1.0, "95 % of 80 are within 1.96 standard errors"


@pytest.mark.parametrize(
    ("x", "y", "ridge", "said"),
    [
        ([[1.0], [2.0]], [1.0, 1.0], 0.0, "2 cases do not determine the weights of 1 features: give a ridge"),
        ([[1.0, 1.0], [2.0, 2.0]], [1.0, 0.0], 0.0, "do not determine"),
        ([[0.0], [0.0]], [1.0, 0.0], 0.0, "do not determine"),
        ([[1.0], [math.nan]], [1.0, 0.0], 0.0, "features must be finite"),
        ([[1.0], [1.0]], [1.0, 1.5], 0.0, r"targets in \[0, 1\]"),
        ([[1.0], [1.0]], [1.0, math.nan], 0.0, "targets in"),
        ([[1.0], [1.0]], [1.0, 0.0], -1.0, "ridge of 0 or more, got 2 and -1"),
    ],
)
def test_data_that_determine_nothing_are_refused(x, y, ridge, said):
    with pytest.raises(ValueError, match=said):
        fit_logistic(torch.tensor(x), torch.tensor(y), ridge)


def test_no_data_are_refused():
    with pytest.raises(ValueError, match="at least one case"):
        fit_logistic(torch.zeros(0, 2), torch.zeros(0))


def test_large_and_small_features_are_one_problem():
    x, y = random_cases(500, [2.0, -1.0])
    plain, scaled = fit_logistic(x, y), fit_logistic(x * torch.tensor([1e4, 1e-4]), y)
    torch.testing.assert_close(scaled.weights * torch.tensor([1e4, 1e-4]).double(), plain.weights, rtol=1e-6, atol=0)


def test_a_step_that_overshoots_is_halved():
    """At w = 8 the loss is nearly straight, and Newton's step goes a thousand times too far below."""
    x, y, w = torch.ones(2, 1).double(), torch.tensor([1.0, 0.0]).double(), torch.tensor([8.0]).double()
    p = torch.sigmoid(w)
    step = (p - 0.5) / (p * (1 - p))

    def loss(v):
        return float(2 * torch.nn.functional.softplus(v) - v)

    short = _shortened(step, w, x, y, 0.0)
    assert float(step) > 1000 and loss(w - step) > loss(w - 2 * short) > loss(w) >= loss(w - short)
    assert torch.equal(_shortened(short, w, x, y, 0.0), short)


def test_a_lead_is_calibrated_by_its_share_of_wins():
    lead, won = torch.tensor([2.0] * 10), torch.tensor([1.0] * 8 + [0.0] * 2)
    calibration = fit_pair_calibration(lead, won)
    assert calibration.slope == pytest.approx(logit(0.8) / 2) and calibration.offset == 0
    torch.testing.assert_close(calibration(torch.tensor([2.0, 0.0, -2.0])), torch.tensor([0.8, 0.5, 0.2]))
    unit = Calibration(calibration.slope, 0.0)(torch.tensor(1 / calibration.slope))
    assert float(unit) == pytest.approx(0.7311, abs=1e-4)


def test_a_score_of_two_values_is_calibrated_by_their_shares():
    score, good = torch.tensor([3.0] * 10 + [5.0] * 20), torch.tensor([1.0] * 2 + [0.0] * 8 + [1.0] * 15 + [0.0] * 5)
    plain = fit_score_calibration(score, good, smooth=False)
    torch.testing.assert_close(plain(torch.tensor([3.0, 5.0])), torch.tensor([0.2, 0.75]))
    assert plain.slope == pytest.approx((logit(0.75) - logit(0.2)) / 2)
    high, low = 18 / 19, 1 / 15
    smooth = fit_score_calibration(score, good)
    expected = [0.2 * high + 0.8 * low, 0.75 * high + 0.25 * low]
    torch.testing.assert_close(smooth(torch.tensor([3.0, 5.0])), torch.tensor(expected))


def test_a_perfect_score_stays_finite_when_smoothed():
    """Platt's targets: 3 good and 2 others of two scores are 4/5 and 1/4."""
    score, good = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    torch.testing.assert_close(fit_score_calibration(score, good)(torch.tensor([1.0, 0.0])), torch.tensor([0.8, 0.25]))
    with pytest.raises(ValueError, match="do not determine"):
        fit_score_calibration(score, good, smooth=False)


@pytest.mark.parametrize(("slope", "offset"), [(0.3, -6.0), (-4.0, 1.0), (0.002, -0.5)])
def test_a_planted_calibration_comes_back_in_the_scores_unit(slope, offset):
    generator = torch.Generator().manual_seed(0)
    score = -offset / slope + torch.randn(20_000, generator=generator).double() / slope
    good = torch.bernoulli(torch.sigmoid(slope * score + offset), generator=generator)
    found = fit_score_calibration(score, good)
    assert found.slope == pytest.approx(slope, rel=0.05)
    grid = -offset / slope + torch.linspace(-2, 2, 9).double() / slope
    torch.testing.assert_close(found(grid), torch.sigmoid(slope * grid + offset), rtol=0, atol=0.02)


def test_a_constant_score_cannot_be_calibrated():
    for score in ([1.0, 1.0], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(ValueError, match="all scores are the same"):
            fit_score_calibration(torch.tensor(score), torch.tensor([1.0, 0.0]))


def test_attribution_adds_up_and_is_the_change_from_the_baseline():
    weights, baseline = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.5, 0.0, 1.0])
    clauses = torch.tensor([[1.0, 1.0, 0.0], [0.5, 0.0, 1.0]])
    terms = attribution(weights, clauses, baseline)
    assert terms.tolist() == [[1.0, -1.0, -0.5], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(terms.sum(1), (clauses - baseline) @ weights)
    for k in range(3):
        alone = baseline.clone()
        alone[k] = clauses[0, k]
        assert float(terms[0, k]) == pytest.approx(float(alone @ weights - baseline @ weights))
