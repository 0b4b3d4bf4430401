"""How well votes fit worths with an error in common: against quadrature, and errors that are known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from limner.objectives.evidence import log_evidence
from limner.rewards.learned.network import Worth
from limner.training.judgements import Judgements
from limner.training.reward_model import Worths, shared_errors

NORMAL = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("lead", "first", "second", "std"), [(0.3, 1, 0, 0.8), (-1.2, 3, 1, 0.4), (2.0, 0, 5, 1.5)])
def test_two_pictures_by_quadrature(lead: float, first: int, second: int, std: float) -> None:
    """Of one pair only the lead counts, which is normal with twice the variance."""

    def integrand(x: float) -> float:
        p = 1 / (1 + math.exp(-x))
        return float(norm.pdf(x, lead, std * math.sqrt(2)) * p**first * (1 - p) ** second)

    expected, _ = quad(integrand, -15, 15)
    votes = torch.tensor([[first, second]]).double()
    found = log_evidence(torch.tensor([lead, 0.0]), torch.full((2,), std), torch.tensor([[0, 1]]), votes, NORMAL)
    assert float(found) == pytest.approx(math.log(expected), abs=0.01)


def votes_on(mean: torch.Tensor, truth: torch.Tensor, pairs: torch.Tensor, text: torch.Tensor) -> Judgements:
    chance = torch.sigmoid(truth[pairs[:, 0]] - truth[pairs[:, 1]])
    first = torch.bernoulli(chance, generator=torch.Generator().manual_seed(3))
    votes = torch.stack([first, torch.zeros(len(pairs)), 1 - first], 1)[:, None]
    texts = [str(i) for i in range(int(text.max()) + 1)]
    nothing = torch.zeros(0, dtype=torch.long)
    pictures = torch.zeros(len(mean), 3, 1, 1, dtype=torch.uint8)
    return Judgements(
        pictures, texts, texts, text, ["overall"], pairs, votes, [()] * len(pairs),
        torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2, dtype=torch.bool), nothing, torch.zeros(0),
    )  # fmt: skip


def test_an_error_that_members_share_is_found_and_their_interval_then_holds_the_truth() -> None:
    """Of 100 prompts with 8 pictures each, whose members agree to 0.2 and are wrong by 0.9; each pair has one vote."""
    generator = torch.Generator().manual_seed(3)
    mean = torch.randn(800, generator=generator, dtype=torch.float64)
    std = torch.full((800, 1), 0.2, dtype=torch.float64)
    truth = mean + math.hypot(0.9, 0.2) * torch.randn(800, generator=generator, dtype=torch.float64)
    within = torch.combinations(torch.arange(8))
    pairs = torch.cat([within + 8 * i for i in range(100)])
    said = votes_on(mean, truth, pairs, torch.arange(100).repeat_interleave(8))
    [shared] = shared_errors(Worths((), lambda _: Worth(mean[:, None], std)), (1.0,), said)
    assert shared == pytest.approx(0.9, rel=0.05)
    miss = ((mean - truth)[pairs[:, 0]] - (mean - truth)[pairs[:, 1]]).abs()
    inside = [float((miss <= 1.96 * math.sqrt(2) * s).double().mean()) for s in (0.2, math.hypot(shared, 0.2))]
    assert inside[0] < 0.4 and 0.93 <= inside[1] <= 0.97


def test_where_each_picture_stands_in_one_pair_nothing_can_be_known_of_it() -> None:
    pairs = torch.arange(40).reshape(20, 2)
    said = votes_on(torch.zeros(40), torch.zeros(40), pairs, torch.arange(20).repeat_interleave(2))
    worth = Worths((), lambda _: Worth(torch.zeros(40, 1), torch.ones(40, 1)))
    assert shared_errors(worth, (1.0,), said) == (0.0,)
