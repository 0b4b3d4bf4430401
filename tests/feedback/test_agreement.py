"""Agreement as published, and by a simulation whose truth is known."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from evalica import alpha_bootstrap
from pandas import DataFrame

from limner.feedback.agreement import Level, alphas, between, cohen, fleiss, krippendorff, of_three

CANONICAL = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
"""Four observers and twelve units. Source: Krippendorff, Computing Krippendorff's alpha-reliability (2011), part E."""


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_alpha_of_the_canonical_example(level: Level, alpha: float) -> None:
    answers = {
        str(unit): {str(who): row[unit] for who, row in enumerate(CANONICAL) if row[unit] is not None}
        for unit in range(12)
    }
    found = krippendorff(answers, level)
    assert round(found.value, 3) == alpha and found.low < found.value < found.high
    said = np.array(CANONICAL, float)[:, :11]  # the last unit nobody can be compared about
    once = np.ones((1, 11))
    assert alphas(said, once, level) == pytest.approx([found.value], abs=1e-12)
    twice = alphas(said, once + (np.arange(11) == 0), "nominal")  # the first unit twice: as a collection of twelve
    assert twice == pytest.approx(alphas(said[:, [0, *range(11)]], np.ones((1, 12)), "nominal"))


def test_kappa_of_two_as_cohen_published_it() -> None:
    """His table 1: of 200 cases 88, 40 and 12 alike; kappa is .492."""
    table = [[88, 14, 18], [10, 40, 10], [2, 6, 12]]
    said = [(i, j) for i in range(3) for j in range(3) for _ in range(table[i][j])]
    assert round(cohen([i for i, _ in said], [j for _, j in said]), 3) == 0.492


def test_kappa_of_many_on_a_published_table() -> None:
    """Fourteen raters, ten subjects, five categories: .210, as in the textbook example of Fleiss' kappa."""
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert round(fleiss(counts), 3) == 0.210


def test_with_two_raters_all_measures_know_chance_and_certainty() -> None:
    draw = random.Random(0)
    truth = {str(i): draw.choice("ab") for i in range(2000)}
    certain = {unit: {"x": value, "y": value} for unit, value in truth.items()}
    blind = {unit: {"x": draw.choice("ab"), "y": value} for unit, value in truth.items()}
    for answers, expected in ((certain, 1.0), (blind, 0.0)):
        assert krippendorff(answers).value == pytest.approx(expected, abs=0.05)
        assert fleiss(of_three(answers, "ab")) == pytest.approx(expected, abs=0.05)
        assert between(answers)["x", "y"] == pytest.approx(expected, abs=0.05)


def test_alpha_of_noisy_observers_is_what_their_noise_makes_it_and_intervals_hold_it() -> None:
    """Who errs with probability e agrees with another by (1 - e)^2 + e^2: so alpha is (1 - 2 e)^2.

    Of 400 collections of 150 units and three observers, of whom one in ten is missing, 93 to 97 % of the intervals hold
    it. His own bootstrap would not: it takes pairs of answers to one unit to be independent.
    """
    draw, error, truth = np.random.default_rng(1), 0.2, (1 - 2 * 0.2) ** 2
    covered = own = 0
    for _ in range(400):
        units = draw.random(150) < 0.5
        said = (units ^ (draw.random((3, 150)) < error)).astype(float)
        there = draw.random((3, 150)) < 0.9
        answers = {
            str(unit): {who: said[row, unit] for row, who in enumerate("xyz") if there[row, unit]}
            for unit in range(150)
        }
        found = krippendorff(answers)
        covered += found.low <= truth <= found.high
        theirs = alpha_bootstrap(DataFrame(np.where(there, said, np.nan)), n_resamples=200, random_state=0)
        own += theirs.low <= truth <= theirs.high
    assert 0.93 < covered / 400 < 0.97 and own / 400 < 0.92


def test_nothing_can_be_said_of_one_answer_a_unit() -> None:
    assert math.isnan(krippendorff({"1": {"x": 0}, "2": {"y": 1}}).value)
    assert math.isnan(fleiss([])) and math.isnan(cohen([], []))
