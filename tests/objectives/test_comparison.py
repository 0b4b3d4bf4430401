"""Shares of wins within a group, by hand."""

from __future__ import annotations

import math

import torch

from limner.objectives.comparison import lexicographic_rate, win_rate

GROUP = torch.tensor([5, 2, 5, 2, 5, 2, 5])
SCORE = torch.tensor([100.0, 7.0, 300.0, 9.0, 300.0, 8.0, math.nan])
VALID = torch.tensor([True] * 6 + [False])


def test_wins_by_hand() -> None:
    """Group 5 has 100, 300, 300 and an invalid sample, group 2 has 7, 9 and 8."""
    assert win_rate(SCORE, GROUP, VALID).tolist() == [0, 0, 0.75, 1, 0.75, 0.5, 0]


def test_who_is_alone_wins_half() -> None:
    found = win_rate(torch.tensor([3.0, 1.0]), torch.tensor([0, 1]), torch.tensor([True, True]))
    assert found.tolist() == [0.5, 0.5]


def test_the_first_difference_beyond_the_tolerance_decides() -> None:
    """0.50, 0.55 and 0.58 are alike within .1 and .9 is not: it wins, and the second score orders the others."""
    first, second = torch.tensor([0.5, 0.55, 0.9, 0.58]), torch.tensor([3.0, 1.0, 0.0, 1.0])
    group, valid = torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.bool)
    found = lexicographic_rate([first, second], group, valid, 0.1)
    torch.testing.assert_close(found, torch.tensor([2 / 3, 0.5 / 3, 1.0, 0.5 / 3]))
    found = lexicographic_rate([first, second], group, valid)
    torch.testing.assert_close(found, torch.tensor([0, 1 / 3, 1.0, 2 / 3]))
