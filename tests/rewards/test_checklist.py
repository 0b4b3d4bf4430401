"""Clauses weighted by preferences: an annotator with planted weights, and terms that add up to the score."""

from __future__ import annotations

import math

import pytest
import torch

from limner.core.errors import UserError
from limner.core.media import Images, Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import declare
from limner.rewards.checklist import WeightedClauses, fit_clauses

PLANTED = {"count": 1.4, "colour": 0.9, "place": -0.6, "sharp": 0.0}


def pairs(n: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
    """Clauses of both sides, as 0 or 1 and as a share, and who won with an annotator who weighs them as planted."""
    generator = torch.Generator().manual_seed(seed)
    sides = [torch.randint(0, 2, (n, 4), generator=generator).float() for _ in range(2)]
    for side in sides:
        side[:, 3] = torch.rand(n, generator=generator)
    lead = (sides[0] - sides[1]) @ torch.tensor(list(PLANTED.values()))
    won = torch.bernoulli(torch.sigmoid(lead), generator=generator)
    first, second = (dict(zip(PLANTED, side.T, strict=True)) for side in sides)
    return first, second, won


def test_the_weights_of_a_synthetic_annotator_come_back() -> None:
    first, second, won = pairs(20_000)
    fitted = fit_clauses(first, second, won)
    assert all(abs(fitted.weights[name] - weight) < 0.1 for name, weight in PLANTED.items())
    assert all(abs(fitted.weights[n] - w) < 3 * fitted.standard_errors[n] for n, w in PLANTED.items())
    assert fitted.num_pairs == 20_000 and 0 < fitted.loss < math.log(2)


def test_pairs_that_are_not_complete_are_left_out() -> None:
    first, second, won = pairs(2000)
    holes = torch.arange(2000) % 4
    kept, others = ({k: v[holes > 2] for k, v in side.items()} for side in (first, second))
    whole = fit_clauses(kept, others, won[holes > 2])
    first["count"] = first["count"].masked_fill(holes == 0, torch.nan)
    second["sharp"] = second["sharp"].masked_fill(holes == 1, torch.nan)
    fitted = fit_clauses(first, second, won.masked_fill(holes == 2, torch.nan))
    assert fitted == whole and fitted.num_pairs == 500


def test_a_clause_that_never_differs_has_no_weight() -> None:
    same = {"a": torch.tensor([1.0, 0.0]), "b": torch.ones(2)}
    fitted = fit_clauses(
        same, {"a": torch.tensor([0.0, 1.0]), "b": torch.ones(2)}, torch.tensor([1.0, 0.5]), ridge=0.25
    )
    assert fitted.weights["b"] == 0 and fitted.standard_errors["b"] == pytest.approx(2.0) and fitted.weights["a"] > 0


def test_data_that_cannot_be_fitted_are_named() -> None:
    first, second, won = pairs(10)
    with pytest.raises(UserError, match=r"both sides must have the same ones, got \['a'\] and \['colour', 'count'"):
        fit_clauses({"a": torch.ones(10)}, second, won)
    with pytest.raises(UserError, match="none of 10 pairs has every clause"):
        fit_clauses(first, second, torch.full((10,), torch.nan))
    with pytest.raises(UserError, match="do not determine the weights of 1 features"):
        fit_clauses({"a": torch.ones(3)}, {"a": torch.zeros(3)}, torch.ones(3), ridge=0.0)


COLUMNS = {
    "count": torch.tensor([1.0, 0.0, 1.0, 1.0]),
    "colour": torch.tensor([0.1, 0.7, math.nan, 0.3]),
    "other": torch.tensor([math.nan] * 4),
}
VALID = torch.tensor([True, True, True, False])


@declare(RewardSpec("clauses", "four samples", needs=("meta.objects",), version="7"))
def judge(media: Media, prompts: list[Prompt]) -> RewardOutput:
    return RewardOutput(torch.zeros(4), VALID, COLUMNS, explanation=["a", "b", "c", "d"])


MEDIA, PROMPTS = Images(torch.zeros(4, 3, 2, 2)), [Prompt("x")] * 4


def test_the_terms_of_a_score_add_up_to_it_exactly() -> None:
    reward = WeightedClauses(judge, {"count": 1.1, "colour": -0.7}, {"colour": 0.3})
    output = reward(MEDIA, PROMPTS)
    assert output.valid.tolist() == [True, True, False, False] and output.score.isnan().tolist() == [
        False,
        False,
        True,
        True,
    ]
    assert output.score[:2].tolist() == pytest.approx([1.1 - 0.7 * (0.1 - 0.3), -0.7 * (0.7 - 0.3)])
    assert torch.equal((output.components["count"] + output.components["colour"])[:2], output.score[:2])
    assert list(output.explanation) == ["a", "b", "c", "d"] and list(output.components) == ["count", "colour"]


def test_many_terms_add_up_exactly_too() -> None:
    generator = torch.Generator().manual_seed(0)
    columns = {f"c{k}": torch.randn(50, generator=generator) for k in range(30)}
    many = WeightedClauses(
        lambda media, prompts: RewardOutput(torch.zeros(50), torch.ones(50, dtype=torch.bool), columns),
        {name: float(torch.randn((), generator=generator)) for name in columns},
        {},
    )
    output = many(Images(torch.zeros(50, 3, 1, 1)), [Prompt("x")] * 50)
    for i, score in enumerate(output.score):
        sum_ = torch.zeros(())
        for term in output.components.values():
            sum_ = sum_ + term[i]
        assert sum_ == score


def test_a_lead_in_score_is_the_log_odds_of_the_annotator() -> None:
    """P(first preferred) by the fitted reward agrees with how often it was, where few clauses differ."""
    first, second, won = pairs(20_000)
    fitted = fit_clauses(first, second, won)

    def scores(side: dict[str, torch.Tensor]) -> torch.Tensor:
        everywhere = torch.ones(20_000, dtype=torch.bool)
        output = RewardOutput(torch.zeros(20_000), everywhere, side)
        return WeightedClauses(lambda media, prompts: output, fitted.weights, {})(MEDIA, PROMPTS).score

    predicted = torch.sigmoid(scores(first) - scores(second))
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (predicted > low) & (predicted <= low + 0.2)
        assert float(won[inside].mean()) == pytest.approx(float(predicted[inside].mean()), abs=0.03)


def test_what_it_says_of_itself() -> None:
    one, two = WeightedClauses(judge, {"count": 1.0}, {}), WeightedClauses(judge, {"count": 1.5}, {})
    assert one.spec.needs == ("meta.objects",) and one.spec.version != two.spec.version and "7" in one.spec.version
    assert one.spec.components == {"count": "+1 x (count - 0)"} and one.spec.about == "the weighted clauses of clauses"


def test_clauses_that_are_not_there_are_named() -> None:
    with pytest.raises(UserError, match="the judge reports no 'cuont'; did you mean 'count'"):
        WeightedClauses(judge, {"cuont": 1.0}, {})(MEDIA, PROMPTS)
    with pytest.raises(UserError, match="the baseline of 'colour' has no weight"):
        WeightedClauses(judge, {"count": 1.0}, {"colour": 0.5})
    with pytest.raises(UserError, match="clauses: no weight"):
        WeightedClauses(judge, {}, {})
    with pytest.raises(UserError, match="returns scores without components"):
        WeightedClauses(lambda media, prompts: torch.zeros(4), {"count": 1.0}, {})(MEDIA, PROMPTS)
