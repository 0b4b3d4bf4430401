import logging
import math
from typing import Any

import numpy as np
import pytest
import torch

from limner.core.errors import BrokenReward, JudgeFailure, UserError
from limner.core.media import Images
from limner.core.types import Prompt, RewardOutput
from limner.judging.checked import Checked, explained

MEDIA = Images(torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
PROMPTS = [Prompt("a"), Prompt("b"), Prompt("c")]
YES = torch.ones(3, dtype=torch.bool)


def careless(**fields: Any) -> RewardOutput:
    """Return what a reward might make of a RewardOutput: outside of tests nothing checks its shapes but the judge."""
    output = RewardOutput(torch.zeros(3), YES)
    for name, value in fields.items():
        object.__setattr__(output, name, value)
    return output


def judged(answer: Any) -> RewardOutput:
    return Checked("mine", lambda media, prompts: answer)(MEDIA, PROMPTS)


@pytest.mark.parametrize(
    "answer",
    [
        torch.tensor([1.0, 0.0, 2.0]),
        torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64),
        torch.tensor([1.0, 0.0, 2.0], dtype=torch.bfloat16, requires_grad=True),
        torch.tensor([1, 0, 2]),
        np.array([1.0, 0.0, 2.0]),
        np.array([1, 0, 2], dtype=np.uint8),
        [1.0, 0, 2],
        (1, 0, 2),
        [torch.tensor(1.0), torch.tensor(0.0), torch.tensor(2.0)],
        [np.float32(1), np.float64(0), np.int64(2)],
        np.array([1, 0, 2], dtype=">f4"),
        np.array([1, 0, 2], dtype=np.longdouble),
        np.array([2.0, 0.0, 1.0])[::-1],
        RewardOutput(torch.tensor([1.0, 0.0, 2.0]), YES),
    ],
)
def test_numbers_in_any_container_become_one_form(answer: Any) -> None:
    output = judged(answer)
    assert output.score.tolist() == [1.0, 0.0, 2.0] and output.valid.tolist() == [True] * 3
    assert output.score.dtype == torch.float64 and not output.score.requires_grad and dict(output.components) == {}


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda x: torch.tensor(x, dtype=torch.float64)])
def test_no_digit_of_a_score_is_lost(kind: Any) -> None:
    exact = [1.7e9 + 1, 1e300, 0.1]
    assert judged(kind(exact)).score.tolist() == exact
    assert judged(careless(score=kind(exact), components={"part": kind(exact)})).components["part"].tolist() == exact


def test_truth_values_are_zero_and_one() -> None:
    assert judged([True, False, True]).score.tolist() == [1.0, 0.0, 1.0]


def test_what_is_not_finite_is_invalid_and_never_zero() -> None:
    output = judged([math.nan, 0.0, math.inf])
    assert output.valid.tolist() == [False, True, False]
    assert output.score[1] == 0 and output.score.isnan().tolist() == [True, False, True]


def test_a_refused_sample_has_no_score_and_parts_are_kept() -> None:
    parts = {"count": torch.tensor([1, 0, 1]), "place": torch.tensor([0.5, math.nan, 1.0])}
    output = judged(RewardOutput(torch.tensor([1.0, 0.0, 4.0]), torch.tensor([True, False, True]), parts))
    assert output.valid.tolist() == [True, False, True] and output.score.isnan().tolist() == [False, True, False]
    assert output.components["count"].tolist() == [1.0, 0.0, 1.0]
    assert output.components["place"].isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (torch.zeros(3, 1), "float32 of shape (3, 1)"),
        (torch.zeros(2), "float32 of shape (2,)"),
        (torch.tensor(1.0), "float32 of shape ()"),
        (torch.zeros(3, dtype=torch.complex64), "complex64 of shape (3,)"),
        (np.zeros((1, 3)), "float64 of shape (1, 3)"),
        (np.array(["a", "b", "c"]), "<U1 array of shape (3,)"),
        ([0.0, 1.0], "float64 of shape (2,)"),
        ([10**400, 0, 1], "list of length 3 holding int"),
        (torch.zeros(3, device="meta"), "meta float32 of shape (3,)"),
        (torch.zeros(3).to_sparse(), "sparse float32 of shape (3,)"),
        (np.array([0.0, 1, 2], dtype=object), "object array of shape (3,)"),
        (np.array(["2020-01-01"] * 3, dtype="datetime64[D]"), "datetime64[D] array of shape (3,)"),
        ([], "float64 of shape (0,)"),
        ([1.0, None, 2.0], "list of length 3 holding NoneType, float"),
        ([[1.0], [1.0, 2.0], [1.0]], "list of length 3 holding list"),
        (([1.0, 2.0, 3.0], {}), "tuple of length 2 holding dict, list"),
        (None, "None (does the function return?)"),
        (0.5, "float"),
        ({"a": 1}, "dict"),
        (careless(score=torch.zeros(2)), "float32 of shape (2,)"),
    ],
)
def test_a_wrong_shape_is_named_with_what_was_expected(answer: Any, got: str) -> None:
    with pytest.raises(UserError) as caught:
        judged(answer)
    said = str(caught.value).partition("; to say more")[0]
    assert said == f"reward 'mine': expected one number a sample, shape (3,), got {got}"


def test_what_an_array_masks_is_not_judged() -> None:
    output = judged(np.ma.masked_array([1.0, 0.0, 2.0], mask=[False, True, False]))
    assert output.valid.tolist() == [True, False, True] and output.score[1].isnan()
    assert judged(careless(valid=list(np.array([True, False, True])))).valid.tolist() == [True, False, True]


@pytest.mark.parametrize("said", ["abc", [1, 2, 3], {"a": "b"}, ["a"]])
def test_explanations_are_a_text_a_sample(said: Any) -> None:
    with pytest.raises(UserError, match="explanation"):
        judged(careless(explanation=said))


@pytest.mark.parametrize("name", ["", 3, "a\x1b[31m", "a\nb", "x" * 101])
def test_names_of_parts_are_short_texts(name: Any) -> None:
    with pytest.raises(UserError, match="reward 'mine': names in `components` are short texts, got"):
        judged(careless(components={name: torch.zeros(3)}))


def test_an_uncertainty_is_not_negative() -> None:
    with pytest.raises(UserError, match="an uncertainty is a standard deviation, 0 or more, got -1"):
        judged(careless(uncertainty=torch.tensor([0.0, -1.0, 2.0])))


def test_an_exit_of_a_reward_is_its_fault() -> None:
    def leaves(media: Any, prompts: Any) -> None:
        raise SystemExit(3)

    with pytest.raises(BrokenReward, match="reward 'mine' raised SystemExit at line .* of test_checked.py: 3"):
        Checked("mine", leaves)(MEDIA, PROMPTS)


def test_wrong_validity_and_parts_are_named() -> None:
    with pytest.raises(UserError, match=r"reward 'mine': expected `valid` to be bool of shape \(3,\), got float32 of"):
        judged(careless(valid=torch.ones(3)))
    with pytest.raises(UserError, match=r"reward 'mine/count': expected one number a sample, shape \(3,\), got"):
        judged(RewardOutput(torch.zeros(3), YES, {"count": torch.zeros(4)}))


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor], ids=lambda kind: kind.__name__)
def test_validity_is_told_by_a_tensor_an_array_or_a_list(kind: Any) -> None:
    assert judged(careless(valid=kind([True, False, True]))).valid.tolist() == [True, False, True]
    with pytest.raises(UserError, match=r"expected `valid` to be bool of shape \(3,\)"):
        judged(careless(valid=kind([1, 0, 1])))


def test_a_judge_sees_what_is_saved() -> None:
    seen = []
    Checked("mine", lambda media, prompts: seen.append(media.pixels) or torch.zeros(3))(MEDIA, PROMPTS)
    levels = seen[0] * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4) and not torch.equal(seen[0], MEDIA.pixels)
    assert torch.equal(seen[0], MEDIA.rounded().pixels)


def test_a_judge_that_fails_marks_its_batch_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    def down(media: Images, prompts: list[Prompt]) -> torch.Tensor:
        raise JudgeFailure("the service is down")

    with caplog.at_level(logging.WARNING):
        output = Checked("mine", down)(MEDIA, PROMPTS)
    assert not output.valid.any() and output.score.isnan().all()
    assert caplog.messages == ["reward 'mine' did not judge 3 samples: the service is down"]


def test_programming_errors_still_raise() -> None:
    with pytest.raises(BrokenReward, match=r"^reward 'mine' raised ZeroDivisionError at line \d+ of test_checked.py: "):
        Checked("mine", lambda media, prompts: [1 / 0])(MEDIA, PROMPTS)


def test_what_else_a_judge_says_is_kept() -> None:
    sigma, maps = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), {"where": torch.rand(3, 2, 2)}
    output = judged(RewardOutput(torch.ones(3), YES, {}, sigma, ["a", None, "c"], maps))
    assert output.uncertainty is not None and torch.equal(output.uncertainty, sigma)
    assert output.explanation == ("a", None, "c") and torch.equal(output.maps["where"], maps["where"].double())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"uncertainty": torch.ones(2)}, "mine/uncertainty"),
        ({"explanation": ["a"]}, "expected 3 explanations, one a sample, got 1"),
        ({"maps": {"where": torch.ones(3, 4)}}, r"'mine/where': expected a map a sample, \(3, rows, columns\)"),
    ],
)
def test_what_else_a_judge_says_has_its_shape(said: dict[str, Any], message: str) -> None:
    with pytest.raises((UserError, TypeError), match=message):
        judged(unchecked(**said))


def unchecked(**said: Any) -> RewardOutput:
    """Return an output as code without shape checks would build it."""
    output = RewardOutput(torch.ones(3), YES)
    for name, value in said.items():
        object.__setattr__(output, name, value)
    return output


@pytest.mark.parametrize(
    "answer",
    [
        (torch.zeros(3), torch.ones(3, dtype=torch.bool)),
        {"score": torch.zeros(3)},
        [torch.zeros(3), None],
        (np.zeros(3), {"a": np.zeros(3)}),
    ],
    ids=["scores and flags", "a dict", "a list", "arrays"],
)
def test_an_answer_that_says_more_in_a_form_of_its_own_is_told_of_reward_output(answer: Any) -> None:
    with pytest.raises(UserError, match=r"to say more than a score, return limner.RewardOutput\(score, valid"):
        Checked("mine", lambda media, prompts: answer)(Images(torch.zeros(3, 3, 4, 4)), [Prompt("")] * 3)


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, torch.from_numpy], ids=["array", "list", "tensor"])
def test_every_field_of_an_output_may_be_an_array_or_a_list(form: Any) -> None:
    """Maps are tensors or arrays."""
    numbers, flags = np.array([0.5, 1.5, 2.5]), np.array([True, False, True])
    maps = np.zeros((3, 2, 2))
    part, where = {"part": form(numbers)}, {"where": maps}
    answer = careless(score=form(numbers), valid=form(flags), components=part, uncertainty=form(numbers), maps=where)
    output = Checked("mine", lambda media, prompts: answer)(Images(torch.zeros(3, 3, 4, 4)), [Prompt("")] * 3)
    assert output.score[[0, 2]].tolist() == [0.5, 2.5] and output.score[1].isnan()
    assert output.components["part"].tolist() == numbers.tolist() and output.uncertainty is not None
    assert output.maps["where"].shape == (3, 2, 2)


@pytest.mark.parametrize("wrong", [[torch.zeros(3)], None, torch.zeros(3)], ids=["list", "none", "tensor"])
def test_components_without_names_are_refused(wrong: Any) -> None:
    answer = careless(components=wrong)
    with pytest.raises(UserError, match="expected `components` to be a dict of names, got"):
        Checked("mine", lambda media, prompts: answer)(Images(torch.zeros(3, 3, 4, 4)), [Prompt("")] * 3)


def test_what_judges_say_of_a_sample_stands_together() -> None:
    """One alone says it as it is, several by their names, and who says nothing of a sample is left out."""
    score, valid = torch.zeros(2), torch.ones(2, dtype=torch.bool)
    one = RewardOutput(score, valid, explanation=["a", None])
    answers = {"first": one, "silent": RewardOutput(score, valid)}
    assert list(explained(answers)) == ["a", None] and not explained({"silent": answers["silent"]})
    answers |= {"second": RewardOutput(score, valid, explanation=["b", None])}
    assert list(explained(answers)) == ["first: a | second: b", None]
