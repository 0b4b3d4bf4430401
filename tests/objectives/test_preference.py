"""Preference losses against values worked out by hand, and their gradients against finite differences, in float64."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from limner.objectives.advantage import calibrated_pair, extreme_pair, front, win_rate
from limner.objectives.preference import (
    PairLoss,
    kto_loss,
    margin_loss,
    odds,
    pair_loss,
    path_pair_loss,
    tilted_score_loss,
)
from limner.objectives.tilt import discrete_tilt

GAP = torch.tensor([0.0, -4e-4, 2e-3], dtype=torch.float64)
MARGIN = torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_diffusion_dpo_is_the_published_codes():
    """0.5 * 5000 times the gap: -log sigmoid(0), (1) and (-5)."""
    expected = [math.log(2), -math.log(sigmoid(1)), -math.log(sigmoid(-5))]
    assert pair_loss(GAP, MARGIN, 5000.0).tolist() == pytest.approx(expected)


def test_hinge_ipo_and_calibrated_by_hand():
    assert pair_loss(GAP, MARGIN, 1000.0, "hinge").tolist() == pytest.approx([1.0, 0.6, 3.0])
    assert pair_loss(GAP, MARGIN, 1000.0, "ipo").tolist() == pytest.approx([2.5e-7, 1e-8, 6.25e-6])
    assert pair_loss(GAP, MARGIN, 1000.0, "calibrated").tolist() == pytest.approx([0.25, 0.64, 1.0])


@pytest.mark.parametrize("utility", ["sigmoid", "loss_averse", "risk_seeking"])
def test_kto_by_hand(utility):
    gain, wanted = torch.tensor([0.003, 0.003, -0.001]).double(), torch.tensor([True, False, False])
    baseline = torch.full((3,), 0.001).double()
    u = [2.0, -2.0, 2.0]  # y 1000 (gain - .001)
    h = {
        "sigmoid": [sigmoid(x) for x in u],
        "loss_averse": [math.log(sigmoid(x)) for x in u],
        "risk_seeking": [-math.log(sigmoid(-x)) for x in u],
    }[utility]
    assert kto_loss(gain, wanted, baseline, 1000.0, utility).tolist() == pytest.approx([1 - x for x in h])


def test_mapo_by_hand_and_where_errors_vanish():
    better, worse = torch.tensor([0.1]).double(), torch.tensor([0.3]).double()
    phi = [0.5 * x / (math.exp(0.5 * x) - 1) for x in (0.1, 0.3)]
    expected = 0.1 - 0.1 * math.log(sigmoid(1000 * (phi[0] - phi[1])))
    assert float(margin_loss(better, worse, 0.1, 1000.0, 0.5)) == pytest.approx(expected)
    tiny = torch.tensor([0.0, 1e-9, 1e-5], requires_grad=True, dtype=torch.float64)
    assert odds(tiny, 0.5).tolist() == pytest.approx([1.0, 1 - 2.5e-10, 1 - 2.5e-6], rel=1e-11)
    slope = torch.autograd.grad(odds(tiny, 0.5).sum(), tiny)[0]
    assert slope.tolist() == pytest.approx([-0.25] * 3, rel=1e-4)


def test_dspo_by_hand():
    new, reference, target = (torch.tensor([[x, 0.0]]).double() for x in (1.0, 0.5, 0.2))
    weight = 0.8 * (1 - sigmoid(-1.0))  # beta (1 - sigmoid(-beta gap / 2)), beta .8, gap 2.5
    expected = ((1.0 - 0.2) - weight * (1.0 - 0.5)) ** 2 / 2
    found = tilted_score_loss(new, reference, target, torch.tensor([2.5]).double(), 0.8)
    assert float(found) == pytest.approx(expected)


def test_what_a_beta_means_in_each_loss():
    """The table of docs/preferences.md: slopes where nothing is learned, where each ends, and what a sigmoid sees."""
    beta, margin, step = 20.0, torch.tensor([0.3], dtype=torch.float64), 1e-6

    def slope(loss, at=0.0):
        ends = [loss(torch.tensor([at + side * step], dtype=torch.float64)) for side in (1, -1)]
        return float(ends[0] - ends[1]) / (2 * step)

    losses = {kind: lambda gap, kind=kind: pair_loss(gap, margin, beta, kind) for kind in get_args(PairLoss)}
    slopes = {"sigmoid": beta / 4, "hinge": beta, "ipo": 1 / beta, "calibrated": beta * 0.3}
    assert {kind: slope(loss) for kind, loss in losses.items()} == pytest.approx(slopes, rel=1e-6)
    for kind, end in (("hinge", -1 / beta - 1e-4), ("ipo", -1 / (2 * beta)), ("calibrated", -2 * 0.3 / beta)):
        assert slope(losses[kind], end) == pytest.approx(0, abs=1e-6) and slope(losses[kind], 0.9 * end) > 1e-6
    gain, wanted, zero = torch.tensor([0.02], dtype=torch.float64), torch.tensor([True]), torch.zeros(1).double()
    assert slope(lambda g: -kto_loss(g, wanted, zero, beta)) == pytest.approx(beta / 4)
    seen = sigmoid(0.2)  # ten times a gain, or minus a gap
    assert pair_loss(-gain, margin, 20.0).exp().item() == pytest.approx(1 / seen)
    assert 1 - kto_loss(gain, wanted, zero, 10.0).item() == pytest.approx(seen)
    led = margin_loss(zero, gain, 1.0, 40.0, 0.5)  # errors 0 of the better one and .02 of the worse one
    assert (-led).exp().item() == pytest.approx(seen, rel=1e-3)
    assert slope(lambda g: margin_loss(g + gain, gain, 0.1, 1000.0, 0.5) - g, 0.0) == pytest.approx(
        0.1 * 1000 * 0.5 / 4, rel=0.01
    )


def test_paths_by_hand_and_beyond_the_clip_range_there_is_no_gradient():
    better = torch.tensor([0.05, 0.5], dtype=torch.float64, requires_grad=True)
    worse = torch.tensor([-0.02, -0.5], dtype=torch.float64)
    loss = path_pair_loss(better, worse, 10.0, 0.1)
    expected = [-math.log(sigmoid(0.7)), -math.log(sigmoid(10 * (math.log(1.1) - math.log(0.9))))]
    assert loss.tolist() == pytest.approx(expected)
    slope = torch.autograd.grad(loss.sum(), better)[0]
    assert slope.tolist() == pytest.approx([-10 * sigmoid(-0.7), 0.0])


@pytest.mark.parametrize("kind", ["sigmoid", "hinge", "ipo", "calibrated"])
def test_gradients_are_those_of_the_losses(kind):
    gap = torch.tensor([-0.3, 0.2, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pair_loss(x, MARGIN, 1.7, kind), gap)
    assert torch.autograd.gradcheck(lambda x: margin_loss(x**2 + 0.1, x.flip(0) ** 2 + 1, 0.1, 3.0, 0.5), gap)
    assert torch.autograd.gradcheck(lambda x: path_pair_loss(x, -x, 2.0, 0.9), gap)


def test_the_optimum_of_dpo_is_the_bradley_terry_difference():
    """Of votes that are right with probability sigmoid(d) the expected loss is least where -beta gap / 2 = d."""
    d, gap = 0.8, torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([gap], max_iter=100, tolerance_grad=1e-12)

    def loss():
        optimizer.zero_grad()
        none = torch.zeros(1)
        risk = sigmoid(d) * pair_loss(gap, none, 2.0) + sigmoid(-d) * pair_loss(-gap, none, 2.0)
        risk.backward()
        return risk

    optimizer.step(loss)
    assert gap.item() == pytest.approx(-d, rel=1e-3)


def test_extreme_pairs():
    """The first of equals; constant groups, groups of one and invalid samples have none."""
    group = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3, 3])
    rewards = torch.tensor([2.0, 5.0, 5.0, 2.0, 1.0, 1.0, 3.0, 9.0, torch.nan]).double()
    valid = rewards.isfinite()
    assert extreme_pair(rewards, group, valid).tolist() == [-1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert extreme_pair(rewards, group, valid, least=3.5).abs().sum() == 0


def test_win_rates_and_fronts():
    group, valid = torch.tensor([0, 0, 0, 1]), torch.ones(4, dtype=torch.bool)
    rates = win_rate(torch.tensor([0.0, 1.0, 2.0, 7.0]).double(), group, valid)
    first = (0.5 + sigmoid(-1) + sigmoid(-2)) / 3
    assert rates.tolist() == pytest.approx([first, 0.5, 1 - first, 0.5])
    two = torch.tensor([[0.9, 0.2], [0.4, 0.8], [0.3, 0.1], [0.5, 0.5]])
    assert front(two, group, valid).tolist() == [True, True, False, True]
    assert front(-two, group, valid).tolist() == [False, False, True, True]
    assert calibrated_pair(two, group, valid).tolist() == pytest.approx([0, 0.2, -0.2, 0])  # means .6 and .2


MODES, REWARD = torch.tensor([0.4, 0.2, 0.3, 0.1]).double(), torch.tensor([0.0, 1.0, 1.0, 0.5]).double()


def best(kind: str, beta: float) -> torch.Tensor:
    """Minimise the mean loss over all pairs of four outcomes, by how often each is drawn and each answer is given."""
    wins = torch.sigmoid(REWARD[:, None] - REWARD)
    weight = MODES[:, None] * MODES * wins
    logits = MODES.log().requires_grad_(True)
    optimizer = torch.optim.LBFGS([logits], lr=1, max_iter=400, tolerance_grad=1e-12, tolerance_change=1e-16,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def closure():
        optimizer.zero_grad()
        ratio = logits.log_softmax(0) - MODES.log()
        gap = (ratio[None, :] - ratio[:, None]).flatten()  # of an exact likelihood: minus the log-ratio is its error
        scale = 2 if kind == "sigmoid" else 1
        loss = (pair_loss(scale * gap, torch.zeros(16).double(), beta, kind).view(4, 4) * weight).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return logits.detach().softmax(0)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_the_optimum_of_dpo_is_the_tilt_of_the_reference(beta):
    """Answers of Bradley-Terry, exact likelihoods, infinite data: pi_k exp(r_k / beta), normalised; o3's modes."""
    torch.testing.assert_close(best("sigmoid", beta), discrete_tilt(MODES, REWARD, beta), atol=1e-6, rtol=0)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_the_optimum_of_ipo_is_the_tilt_by_how_often_one_wins(beta):
    """IPO, arXiv:2310.12036, theorem 2 with Psi the identity: pi_k exp(P(k beats the reference) / beta)."""
    won = torch.sigmoid(REWARD[:, None] - REWARD) @ MODES
    torch.testing.assert_close(best("ipo", beta), discrete_tilt(MODES, won, beta), atol=1e-6, rtol=0)
