"""Several rewards to one total, against definitions written out in plain Python."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from limner.objectives.advantage import group_advantage
from limner.objectives.aggregation import aggregate, lexicographic_rate, win_rate

GROUP = torch.tensor([5, 2, 5, 2, 5, 2, 5])
SCORE = {
    "big": torch.tensor([100.0, 7.0, 300.0, 9.0, 300.0, 8.0, math.nan]),
    "small": torch.tensor([0.3, 0.1, 0.2, 0.1, 0.1, 0.1, 0.9]),
}
VALID = torch.tensor([True] * 6 + [False])
WEIGHTS = {"big": 1.0, "small": 2.0}


def terms(columns: dict[str, torch.Tensor]) -> list[tuple[float, torch.Tensor]]:
    return [(WEIGHTS[name], column) for name, column in columns.items()]


def members(row: int) -> list[int]:
    return [i for i in range(7) if VALID[i] and GROUP[i] == GROUP[row]]


def z_score(values: torch.Tensor, row: int) -> float:
    pool = [values[i].item() for i in members(row)]
    spread = statistics.stdev(pool)
    return 0.0 if spread == 0 else (values[row].item() - statistics.mean(pool)) / (spread + 1e-4)


def wins(values: torch.Tensor, row: int) -> float:
    pool = [values[i].item() for i in members(row) if i != row]
    mine = values[row].item()
    return sum((mine > other) + (mine == other) / 2 for other in pool) / len(pool)


@pytest.mark.parametrize(("kind", "part"), [("normalize_then_sum", z_score), ("win_rate", wins)])
def test_an_aggregate_is_its_definition(kind, part) -> None:
    found = aggregate(terms(SCORE), GROUP, VALID, kind)
    expected = [sum(WEIGHTS[k] * part(SCORE[k], row) for k in SCORE) for row in range(6)]
    torch.testing.assert_close(found[:6], torch.tensor(expected))
    assert found[6].isnan()


def test_a_sum_is_a_sum() -> None:
    torch.testing.assert_close(aggregate(terms(SCORE), GROUP, VALID, "sum")[:2], torch.tensor([100.6, 7.2]))


def test_no_scale_of_a_reward_matters() -> None:
    scaled = SCORE | {"big": SCORE["big"] * 1e3 + 5}
    for kind in ("normalize_then_sum", "win_rate"):
        mine, theirs = (aggregate(terms(columns), GROUP, VALID, kind)[:6] for columns in (SCORE, scaled))
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


def test_gdpo_is_a_batch_normalised_sum_of_z_scores() -> None:
    """b = sum of z-scores has mean 0 in each group; (b - mean) / (std + 1e-4) over the batch is the whole of GDPO."""
    b = aggregate(terms(SCORE), GROUP, VALID, "normalize_then_sum")
    found = group_advantage(b, GROUP, VALID, "batch", 1, 1e-4)
    pool = b[:6].tolist()
    expected = [(value - statistics.mean(pool)) / (statistics.stdev(pool) + 1e-4) for value in pool]
    torch.testing.assert_close(found[:6], torch.tensor(expected), rtol=1e-4, atol=1e-6)
    assert found[6] == 0


@pytest.mark.parametrize("kind", ["normalize_then_sum", "win_rate"])
def test_where_nothing_was_judged_there_is_no_total(kind) -> None:
    assert aggregate(terms(SCORE), GROUP, torch.zeros(7, dtype=torch.bool), kind).isnan().all()


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
