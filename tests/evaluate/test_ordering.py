"""Orders of pairs counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from limner.evaluate.ordering import better, by_prompt, likeliest, ordering
from limner.objectives.calibration import reliability_diagram


def test_shares_of_votes_by_hand() -> None:
    """Of two prompts: one right pair of two beside a tie, and a pair with three votes of four for the second."""
    lead = torch.tensor([1.0, -1.0, 0.1, -2.0])
    votes = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 3.0]])
    found = ordering(lead, votes, torch.tensor([0, 0, 0, 1]), likeliest(lead, "davidson", 0.5))
    assert found.accuracy.value == pytest.approx((0.5 + 0.75) / 2) and found.accuracy.n == 2
    # the tie is foretold: e^0.5 > e^0.05; so are the first and the last, and the second wrongly
    assert found.with_ties.value == pytest.approx((2 / 3 + 0.75) / 2)
    p = [1 / (1 + math.exp(-x)) for x in (1.0, -1.0, -2.0)]
    loss = -(math.log(p[0]) + math.log(p[1]) + 0.25 * math.log(p[2]) + 0.75 * math.log(1 - p[2])) / 3
    assert found.log_loss == pytest.approx(loss) and found.votes == 7


def test_a_lead_of_nothing_is_half_right_and_the_difference_is_paired() -> None:
    votes = torch.tensor([[1.0, 0.0, 0.0]] * 6)
    text = torch.arange(6)
    flat, right = torch.zeros(6), torch.ones(6)
    gained = better(right, flat, votes, text)
    assert (gained.value, gained.low, gained.high) == (0.5, 0.5, 0.5)
    assert by_prompt(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([5, 5, 9])).value == 0.75


def test_reliability_by_hand() -> None:
    """Error = 2/4 |0.5 - 0.85| + 2/4 |1 - 0.15|."""
    found = reliability_diagram(torch.tensor([0.8, 0.9, 0.1, 0.2]), torch.tensor([1.0, 0.0, 1.0, 1.0]), bins=2)
    assert found.cases.tolist() == [2, 2] and found.true.tolist() == [1.0, 0.5]
    assert found.error == pytest.approx(0.5 * 0.35 + 0.5 * 0.85)
