"""Oracle O7: its answers come as often as its model says, and whoever learns from them comes as near as one can."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limner.bench.annotated import drawn
from limner.cli import main
from limner.core.errors import UserError
from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.data.pairs import as_media, read_picture
from limner.judging.checked import Checked
from limner.objectives.logistic import fit_bradley_terry
from limner.worlds.annotator import UTILITIES, Annotator
from limner.worlds.oracle.model import Points
from limner.worlds.oracle.world import WORLDS

ASKED = [Prompt("a point")]


def points(world: str, count: int, seed: int) -> Tensor:
    return drawn(WORLDS[world].base, count, Rng(("test", seed)))


def said(annotator: Annotator, a: Tensor, b: Tensor) -> Tensor:
    return annotator.compare(Points(a), Points(b), ASKED * len(a)).score


def test_answers_come_as_often_as_the_model_says() -> None:
    """Rao and Kupper's: theta = e^ties; p_a / (p_a + theta p_b), by hand, and a fifth of answers by a coin."""
    who = Annotator("o1", noise=0.5, ties=0.7, random=0.2)
    lead = torch.tensor([0.0, 0.3, -1.0])
    p, theta = (lead.double() / 0.5).exp(), math.exp(0.7)
    first, second = 0.8 * p / (p + theta) + 0.1, 0.8 / (1 + theta * p) + 0.1
    torch.testing.assert_close(torch.stack(who.answers(lead)), torch.stack([first, 1 - first - second, second]))
    torch.testing.assert_close(who.bayes(lead), torch.maximum(first, second) / (first + second))
    a = points("o1", 6000, 0)
    b = a - 0.3 * torch.tensor([1.0, 0.5]) / 1.25  # a . x is lower by .3
    answers = said(who, a, b)
    shares = torch.stack([(answers == x).double().mean() for x in (1.0, 0.5, 0.0)])
    torch.testing.assert_close(shares, torch.stack([first, 1 - first - second, second])[:, 1], atol=0.02, rtol=0)


def test_the_same_pair_has_the_same_answer_in_either_order() -> None:
    who = Annotator("o2", noise=2.0, ties=0.3, random=0.1)
    a, b = points("o2", 500, 0), points("o2", 500, 1)
    answers = said(who, a, b)
    assert torch.equal(answers, said(who, a, b)) and torch.equal(said(who, b, a), 1 - answers)
    assert torch.equal(torch.cat([said(who, a[:3], b[:3]), said(who, a[3:], b[3:])]), answers)
    assert not torch.equal(said(Annotator("o2", noise=2.0, ties=0.3, random=0.1, seed=1), a, b), answers)
    assert set(said(who, a, a).tolist()) == {0.5}


def test_a_taste_that_is_not_known_is_refused() -> None:
    with pytest.raises(UserError, match="unknown utility 'scene'; did you mean 'scenes'"):
        Annotator("scene")


def test_a_pair_of_which_one_cannot_be_judged_counts_for_neither() -> None:
    a, b = points("o1", 3, 0), points("o1", 3, 1)
    a[1] = torch.nan
    answer = Annotator("o1").compare(Points(a), Points(b), ASKED * 3)
    assert answer.valid.tolist() == [True, False, True]


FEATURES = {
    "o1": lambda x: x,
    "o2": lambda x: torch.cat([x, x**2, x[:, :1] * x[:, 1:]], 1),
    "o3": lambda x: torch.nn.functional.one_hot(WORLDS["o3"].base.nearest(x), 4)[:, 1:].double(),
}


@pytest.mark.parametrize("world", FEATURES)
@pytest.mark.parametrize("annotator", [dict(noise=0.5), dict(noise=0.5, ties=0.8, random=0.2)], ids=["plain", "lapses"])
def test_a_fitted_reward_foretells_answers_as_well_as_the_truth_but_for_5_percent(world, annotator) -> None:
    """Bradley-Terry on known features, 1,500 pairs; accuracy on 4,000 others against Bayes', and the truth's own."""
    who, features = Annotator(world, **annotator), FEATURES[world]
    pairs = [(points(world, count, 2 * i), points(world, count, 2 * i + 1)) for i, count in enumerate((1500, 4000))]
    fitted = fit_bradley_terry(features(pairs[0][0]) - features(pairs[0][1]), said(who, *pairs[0]), ridge=1e-3)
    a, b = pairs[1]
    answers = said(who, a, b)
    told, lead = answers != 0.5, WORLDS[world].score(a) - WORLDS[world].score(b)
    guess = (features(a) - features(b)).double() @ fitted.weights
    reached = accuracy(guess[told], answers[told])
    chance = who.answers(lead)
    decided = chance.first + chance.second
    bayes = float((who.bayes(lead) * decided).sum() / decided.sum())
    assert accuracy(lead[told], answers[told]) == pytest.approx(bayes, abs=0.025)
    assert reached > 0.95 * bayes and bayes > 0.6
    assert told.double().mean() == pytest.approx(float(decided.mean()), abs=0.025)


def accuracy(lead: Tensor, answers: Tensor) -> float:
    """How often the sign of a lead is the answer; nothing is known where it is 0."""
    return float(torch.where(lead.abs() < 1e-9, 0.5, ((lead > 0) == (answers > 0.5)).double()).mean())


def test_pairs_are_made_by_it(tmp_path: Path) -> None:
    """As typed: what it answers about the pictures in the folder is what the folder says."""
    reward = 'win_rate(annotator(of="scenes_fraction", noise=0.3, ties=0.2, random=0.05, seed=3))'
    words = ["--count", "12", "--steps", "4", "--out", str(tmp_path / "pairs"), "--reward", reward]
    assert main(["pairs", "make", "scenes", *words]) == 0
    rows = [json.loads(line) for line in (tmp_path / "pairs" / "pairs.jsonl").read_text().splitlines()]
    assert len(rows) > 3
    assert all({row["score_a"], row["score_b"]} == {0.0, 1.0} for row in rows)
    a, b = (as_media([read_picture(tmp_path / "pairs" / row[f"media_{s}"], 64, 64) for row in rows]) for s in "ab")
    prompts = [Prompt(row["prompt"]) for row in rows]
    who = Annotator("scenes_fraction", noise=0.3, ties=0.2, random=0.05, seed=3)
    assert who.compare(a, b, prompts).score.tolist() == [row["score_a"] for row in rows]
    gaps = [Checked("u", UTILITIES["scenes_fraction"])(side, prompts).score for side in (a, b)]
    assert (gaps[0] != gaps[1]).any()
