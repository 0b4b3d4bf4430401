"""Likelihoods of choices against closed forms, enumeration, simulation and finite differences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from torch import Tensor

from limner.objectives.choice import (
    Ties,
    choice_loss,
    contrast_loss,
    disagreement,
    discounted,
    log_outcomes,
    ranking_loss,
    rating_loss,
    uncertain_choice_loss,
)

KINDS: list[Ties] = ["bradley_terry", "rao_kupper", "davidson"]


def parameter(kind: Ties) -> Tensor:
    return torch.tensor(0.7, dtype=torch.float64)


def test_rao_and_kupper_by_their_own_equations() -> None:
    """P(first) = a / (a + theta b), P(tie) = ab (theta^2 - 1) / ((a + theta b)(theta a + b)); here theta = 5."""
    a, b, theta = math.exp(0.4), math.exp(-0.3), 5.0
    h = math.log(theta)
    found = log_outcomes(torch.tensor([0.7], dtype=torch.float64), "rao_kupper", torch.tensor(math.log(math.expm1(h))))
    first, second = a / (a + theta * b), b / (b + theta * a)
    tie = a * b * (theta**2 - 1) / ((a + theta * b) * (theta * a + b))
    torch.testing.assert_close(found.exp(), torch.tensor([[first, tie, second]], dtype=torch.float64))


def test_davidson_by_his_own_equations() -> None:
    """P(first) = a / (a + b + nu sqrt(ab)), P(tie) = nu sqrt(ab) / the same."""
    a, b, nu = math.exp(0.4), math.exp(-0.3), 0.8
    found = log_outcomes(torch.tensor([0.7], dtype=torch.float64), "davidson", torch.tensor(math.log(nu)).double())
    total = a + b + nu * math.sqrt(a * b)
    expected = torch.tensor([[a / total, nu * math.sqrt(a * b) / total, b / total]], dtype=torch.float64)
    torch.testing.assert_close(found.exp(), expected)


@pytest.mark.parametrize("kind", ["rao_kupper", "davidson"])
def test_outcomes_add_up_to_one_and_swap(kind: Ties) -> None:
    lead = torch.linspace(-30, 30, 61, dtype=torch.float64)
    found = log_outcomes(lead, kind, parameter(kind))
    torch.testing.assert_close(found.logsumexp(1), torch.zeros(61, dtype=torch.float64))
    torch.testing.assert_close(found.flip(1), log_outcomes(-lead, kind, parameter(kind)))


def test_without_ties_the_models_are_bradley_and_terrys() -> None:
    lead = torch.tensor([-2.0, 0.0, 1.5], dtype=torch.float64)
    plain = log_outcomes(lead, "bradley_terry", torch.tensor(0.0))[:, [0, 2]]
    never = torch.tensor(-60.0, dtype=torch.float64)
    for kind in ("rao_kupper", "davidson"):
        torch.testing.assert_close(log_outcomes(lead, kind, never)[:, [0, 2]], plain)
    tie = choice_loss(lead, torch.tensor([[0.0, 1.0, 0.0]] * 3).double(), "bradley_terry", torch.tensor(0.0))
    both = torch.tensor([[0.5, 0.0, 0.5]] * 3).double()
    torch.testing.assert_close(tie, choice_loss(lead, both, "bradley_terry", torch.tensor(0.0)))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_finite_differences(kind: Ties) -> None:
    votes = torch.tensor([[2.0, 1.0, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
    lead = torch.tensor([0.3, -1.2], dtype=torch.float64, requires_grad=True)
    tie = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    variance = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, t: choice_loss(x, votes, kind, t), (lead, tie))
    assert torch.autograd.gradcheck(lambda x, v, t: uncertain_choice_loss(x, v, votes, kind, t), (lead, variance, tie))


def test_an_uncertain_lead_is_averaged_over() -> None:
    """Against a million draws, and without variance against the lead itself."""
    lead, variance = torch.tensor([0.8]).double(), torch.tensor([2.25]).double()
    votes, tie = torch.tensor([[1.0, 0.0, 0.0]]).double(), torch.tensor(0.0)
    z = 0.8 + 1.5 * torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = torch.nn.functional.softplus(-z).mean()
    found = uncertain_choice_loss(lead, variance, votes, "bradley_terry", tie)
    torch.testing.assert_close(found[0], drawn, rtol=2e-3, atol=0)
    certain = uncertain_choice_loss(lead, torch.zeros(1).double(), votes, "bradley_terry", tie)
    torch.testing.assert_close(certain, choice_loss(lead, votes, "bradley_terry", tie))


def test_an_unsure_lead_foretells_less() -> None:
    """Its log-odds by adaptive quadrature; swapped, its negative; sure, itself."""
    cases = [(0.8, 0.5), (3.0, 4.0), (-1.5, 9.0), (6.0, 1.0)]
    lead, variance = torch.tensor(cases, dtype=torch.float64).unbind(1)

    def chance(mean: float, std: float) -> float:
        return float(quad(lambda z: norm.pdf(z) * expit(mean + std * z), -12, 12, epsabs=1e-12)[0])

    found = discounted(lead, variance)
    odds = [math.log(chance(m, v**0.5) / chance(-m, v**0.5)) for m, v in cases]
    torch.testing.assert_close(found, torch.tensor(odds, dtype=torch.float64), rtol=2e-3, atol=0)
    torch.testing.assert_close(discounted(-lead, variance), -found)
    torch.testing.assert_close(discounted(lead, torch.zeros(4).double()), lead)


def test_rankings_by_enumeration() -> None:
    """The probabilities of all orders add up to 1; of two it is Bradley and Terry's; what is padding counts nothing."""
    worth = torch.tensor([0.5, -0.2, 1.1, 0.0], dtype=torch.float64)
    orders = torch.tensor(list(itertools.permutations(range(4))))
    loss = ranking_loss(worth[orders], torch.ones(24, 4, dtype=torch.bool))
    torch.testing.assert_close((-loss).exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    w = worth.exp()
    by_hand = w[2] / w.sum() * w[0] / (w.sum() - w[2]) * w[3] / (w[3] + w[1])
    first = ranking_loss(worth[torch.tensor([[2, 0, 3, 1]])], torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close((-first).exp()[0], by_hand)
    padded = ranking_loss(worth[torch.tensor([[2, 0, 1, 1]])], torch.tensor([[True, True, False, False]]))
    torch.testing.assert_close((-padded).exp()[0], torch.sigmoid(worth[2] - worth[0]))


def test_a_rating_is_met_where_its_probability_is_the_worths() -> None:
    worth = torch.tensor([0.0, 2.0], dtype=torch.float64, requires_grad=True)
    rating_loss(worth, torch.sigmoid(worth.detach())).sum().backward()
    torch.testing.assert_close(worth.grad, torch.zeros(2, dtype=torch.float64))
    found = rating_loss(torch.tensor([1.3]), torch.tensor([1.0]))
    torch.testing.assert_close(found, -torch.sigmoid(torch.tensor([1.3])).log())


def test_contrast_is_the_cross_entropy_of_a_pictures_own_text() -> None:
    worth = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(worth, torch.zeros(5, dtype=torch.long), reduction="none")
    torch.testing.assert_close(contrast_loss(worth), expected)


def test_disagreement_is_the_mutual_information_of_a_vote_and_the_member_that_is_right():
    """By enumeration of the two answers and four members; 0 where all say the same, at most log 2."""
    lead = torch.tensor([[0.5, 2.0, 0.0, 40.0], [0.5, -2.0, 0.0, -40.0]], dtype=torch.float64)
    found = disagreement(lead)
    for pair, told in zip(lead.T.tolist(), found.tolist(), strict=True):
        chance = [1 / (1 + math.exp(-x)) for x in pair]
        joint = [p / 2 for p in chance] + [(1 - p) / 2 for p in chance]
        answer = [sum(joint[:2])] * 2 + [sum(joint[2:])] * 2
        expected = sum(j * math.log(j / (a / 2)) for j, a in zip(joint, answer, strict=True) if j > 0)
        assert told == pytest.approx(expected, abs=1e-9)
    assert found[3] == pytest.approx(math.log(2))
