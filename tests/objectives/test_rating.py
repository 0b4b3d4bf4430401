"""Worths against published fits, independent algorithms, and simulations whose truth is known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import norm
from torch import Tensor

from limner.objectives.choice import Ties, log_outcomes
from limner.objectives.rating import Z95, Rating, fit_pairs, fit_people, fit_rankings

BASEBALL = [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]
"""Wins of Milwaukee, Detroit, Toronto, New York, Boston, Cleveland and Baltimore over one another, 1987.

Source: Agresti, Categorical Data Analysis, table 10.10; the fit is that of R's BradleyTerry2, with Baltimore at 0.
"""
ABILITY = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839]
ERROR = [0.3433, 0.3396, 0.3367, 0.3359, 0.3339, 0.3319]


def votes_of(wins: Tensor, ties: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    i, j = torch.triu_indices(len(wins), len(wins), 1)
    return i, j, torch.stack([wins[i, j], ties[i, j], wins[j, i]], 1)


def test_baseball_as_published() -> None:
    wins = torch.tensor(BASEBALL, dtype=torch.float64)
    found = fit_pairs(*votes_of(wins, torch.zeros_like(wins)), 7)
    leads = [found.lead(i, 6) for i in range(6)]
    assert [round(lead, 4) for lead, _ in leads] == ABILITY
    assert [round(error, 4) for _, error in leads] == ERROR
    low, high = found.interval(0)
    assert (low + high) / 2 == pytest.approx(float(found.worth[0])) and found.worth.sum().abs() < 1e-9


def test_ties_by_davidsons_own_equations() -> None:
    """At the maximum the expected points of each (a tie is half a win), and the expected ties, are those seen."""
    generator = torch.Generator().manual_seed(1)
    wins, ties = (torch.randint(2, 12, (5, 5), generator=generator).double() for _ in range(2))
    i, j, votes = votes_of(wins, ties)
    found = fit_pairs(i, j, votes, 5, "davidson")
    chance = log_outcomes(found.worth[i] - found.worth[j], "davidson", torch.tensor(found.tie).double()).exp()
    expected = chance * votes.sum(1, keepdim=True)
    for said in (votes, expected):
        said[:, 1] /= 2
    points = [
        torch.zeros(5).double().index_add_(0, i, said[:, 0] + said[:, 1]).index_add_(0, j, said[:, 1] + said[:, 2])
        for said in (votes, expected)
    ]
    torch.testing.assert_close(points[0], points[1])
    torch.testing.assert_close(votes[:, 1].sum(), expected[:, 1].sum())


def test_ties_by_hunters_algorithm() -> None:
    """Rao and Kupper's by minorisation and maximisation. Source: Hunter, Annals of Statistics 32 (2004), section 4."""
    generator = torch.Generator().manual_seed(2)
    wins, ties = (torch.randint(2, 12, (4, 4), generator=generator).double() for _ in range(2))
    ties = (ties + ties.T) / 2
    ties.fill_diagonal_(0)
    wins.fill_diagonal_(0)
    found = fit_pairs(*votes_of(wins, ties), 4, "rao_kupper")
    gamma, theta = torch.ones(4).double(), 2.0
    counted = wins + ties
    for _ in range(1000):
        a = counted / (gamma[:, None] + theta * gamma[None, :])
        b = counted.T * theta / (theta * gamma[:, None] + gamma[None, :])
        gamma = counted.sum(1) / (a + b).sum(1)
        gamma = gamma / gamma.log().mean().exp()
        c = (counted * gamma[None, :] / (gamma[:, None] + theta * gamma[None, :])).sum() / (ties.sum() / 2)
        theta = 1 / c.item() + math.sqrt(1 + 1 / c.item() ** 2)
    torch.testing.assert_close(found.worth, gamma.log(), atol=1e-5, rtol=1e-5)
    assert math.exp(math.log1p(math.exp(found.tie))) == pytest.approx(theta, rel=1e-5)


@pytest.mark.parametrize("kind", ["davidson", "rao_kupper"])
def test_of_ties_alone_a_prior_makes_two_equal(kind: Ties) -> None:
    one = torch.tensor([0])
    votes = torch.tensor([[0.0, 40.0, 0.0]])
    found = fit_pairs(one, one + 1, votes, 2, kind, 1e-2)
    assert found.worth.tolist() == pytest.approx([0.0, 0.0]) and math.isfinite(found.tie)
    with pytest.raises(ValueError, match="do not determine"):
        fit_pairs(one, one + 1, votes, 2, kind)


def test_rankings_by_hunters_algorithm() -> None:
    """Plackett and Luce's by minorisation and maximisation. Source: Hunter, 2004, eq. 30."""
    generator = torch.Generator().manual_seed(3)
    orders = torch.stack([torch.randperm(5, generator=generator) for _ in range(40)])
    ranked = torch.arange(5) < torch.randint(2, 6, (40, 1), generator=generator)
    found = fit_rankings(orders, ranked, 5)
    choices = [
        (int(order[place]), order[place : int(kept.sum())])
        for order, kept in zip(orders, ranked, strict=True)
        for place in range(int(kept.sum()) - 1)
    ]
    among = torch.stack([torch.zeros(5).double().index_fill(0, rest, 1) for _, rest in choices])
    wins = torch.bincount(torch.tensor([first for first, _ in choices]), minlength=5)
    gamma = torch.ones(5).double()
    for _ in range(2000):
        gamma = wins / (among.T @ (1 / (among @ gamma)))
        gamma = gamma / gamma.log().mean().exp()
    torch.testing.assert_close(found.worth, gamma.log(), atol=1e-5, rtol=1e-5)


TRUTH = torch.tensor([0.8, 0.3, 0.0, -0.4, -0.7], dtype=torch.float64)
TIE = -0.5
COLLECTIONS = 200
"""Of each model: the share of covered leads has a standard error of about .7 % then."""


def covers(found: Rating) -> list[bool]:
    """Return of each lead, and of what makes ties, whether its 95 % interval holds the truth."""
    leads = [(*found.lead(a, b), float(TRUTH[a] - TRUTH[b])) for a, b in itertools.combinations(range(5), 2)]
    leads += [(found.tie, found.tie_error, TIE)] if found.tie_error else []
    return [abs(value - true) <= Z95 * error for value, error, true in leads]


@pytest.mark.parametrize("kind", ["bradley_terry", "rao_kupper", "davidson"])
def test_intervals_cover_the_truth_as_often_as_they_say(kind: Ties) -> None:
    """93 to 97 % of all leads' intervals, of each model by itself; a collection has 60 votes a pair."""
    i, j = torch.tensor(list(itertools.combinations(range(5), 2))).unbind(1)
    generator, covered = torch.Generator().manual_seed(0), list[bool]()
    chance = log_outcomes(TRUTH[i] - TRUTH[j], kind, torch.tensor(TIE).double()).exp()
    if kind == "bradley_terry":
        chance[:, 1] = 0.0
    for _ in range(COLLECTIONS):
        drawn = torch.multinomial(chance, 60, replacement=True, generator=generator)
        votes = torch.stack([(drawn == k).sum(1) for k in range(3)], 1).double()
        covered += covers(fit_pairs(i, j, votes, 5, kind))
    assert 0.93 < sum(covered) / len(covered) < 0.97
    assert len(covered) == COLLECTIONS * (10 if kind == "bradley_terry" else 11)


def test_intervals_of_rankings_cover_the_truth_as_often_as_they_say() -> None:
    """93 to 97 % of leads' intervals, by Plackett and Luce: 80 rankings a collection, of four of five, a third of two.

    Worths plus Gumbel's noise, in order, are such rankings (Yellott, 1977).
    """
    generator, covered = torch.Generator().manual_seed(0), list[bool]()
    ranked = torch.ones(80, 4, dtype=torch.bool)
    ranked[::3, 2:] = False
    for _ in range(COLLECTIONS):
        asked = torch.rand(80, 5, generator=generator).argsort(1)[:, :4]
        noise = -torch.empty(80, 4, dtype=torch.float64).exponential_(generator=generator).log()
        seen = (TRUTH[asked] + noise).masked_fill(~ranked, -math.inf)
        order = asked.gather(1, seen.argsort(1, descending=True))
        covered += covers(fit_rankings(order, ranked, 5))
    assert 0.93 < sum(covered) / len(covered) < 0.97 and len(covered) == 10 * COLLECTIONS


def test_what_the_votes_do_not_determine_is_refused_without_a_prior() -> None:
    """Who was never beaten, and two who never met the other two."""
    first, second = torch.tensor([0]), torch.tensor([1])
    always = torch.tensor([[9.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="ridge"):
        fit_pairs(first, second, always, 2)
    assert 0 < float(fit_pairs(first, second, always, 2, ridge=0.1).lead(0, 1)[0]) < 10
    apart = torch.tensor([[3.0, 0.0, 2.0]] * 2)
    with pytest.raises(ValueError, match="ridge"):
        fit_pairs(torch.tensor([0, 2]), torch.tensor([1, 3]), apart, 4)


def test_how_sharply_people_judge_by_quadrature() -> None:
    """Of two who agree about five pairs of six: the maximum of the integrated likelihood, which scipy integrates."""

    def loss(gamma: float) -> float:
        def together(sign: float) -> float:
            def density(z: float) -> float:
                return norm.pdf(z) * expit(gamma * z) * expit(sign * gamma * z)

            return math.log(quad(density, -10, 10)[0])

        return -5 * together(1) - together(-1) + 2 * (gamma - 1) ** 2 / 8

    wanted = minimize_scalar(loss, bounds=(0, 8), method="bounded", options={"xatol": 1e-8}).x
    pair = torch.arange(6).repeat_interleave(2)
    first = torch.tensor([1.0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0], dtype=torch.float64)
    found = fit_people(pair, torch.tensor([0, 1]).repeat(6), first, 2)
    assert found.value.tolist() == pytest.approx([wanted] * 2, abs=1e-4)
    value, low, high = found.right(0)
    assert value == pytest.approx(2 * quad(lambda z: norm.pdf(z) * expit(wanted * z), 0, 10)[0], abs=1e-3)
    assert low < 0.5 < value < high  # of two alone nobody can say who is right


def test_a_coin_and_a_contrary_person_are_found_among_others() -> None:
    """Six people of known sharpness, each on three fifths of 600 pairs: within 2.6 standard errors (99 %) of theirs."""
    truth = torch.tensor([2.5, 2.0, 1.5, 1.0, 0.0, -1.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    lead = torch.randn(600, generator=generator, dtype=torch.float64)
    asked = torch.tensor([[(i + k) % 5 < 3 for k in range(6)] for i in range(600)])
    pair, person = asked.nonzero().unbind(1)
    chance = torch.sigmoid(truth[person] * lead[pair])
    said = torch.bernoulli(chance, generator=generator)
    found = fit_people(pair, person, said, 6)
    assert ((found.value - truth).abs() < 2.6 * found.standard_error).all() and found.standard_error.max() < 1
    assert [round(found.right(i)[0], 1) for i in (4, 5)] == [0.5, 0.3] and found.right(0)[1] > 0.65
    other = fit_people(pair, person, 1 - said, 6)  # which one is called the first does not matter
    torch.testing.assert_close(other.value, found.value, atol=1e-3, rtol=1e-3)
