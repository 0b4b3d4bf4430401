"""Files of rubrics and checklists, and the tally of a checklist's answers by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from limner.core.errors import UserError
from limner.rewards.vlm.forms import Question, questions_of, read_checklist, read_rubric
from limner.rewards.vlm.tally import answers, mean

NAN = math.nan


def test_questions_in_any_form() -> None:
    entries = [
        "Is it red?",
        ["How many?", "two"],
        ["Is it blurred?", "No"],
        ["Is it blue?", True],
        {"text": "Big?", "id": "big"},
    ]
    questions = questions_of(entries, "here")
    assert questions == (
        Question("1", "Is it red?"),
        Question("2", "How many? The proposed answer is: two. Is the proposed answer right?"),
        Question("3", "Is it blurred?", answer=False),
        Question("4", "Is it blue?"),
        Question("big", "Big?"),
    )


def test_files_in_yaml_and_json(tmp_path: Path) -> None:
    yaml, json = tmp_path / "a.yaml", tmp_path / "a.json"
    yaml.write_text(
        "mean: geometric\nquestions:\n- {text: 'Is it noisy?', answer: no, weight: 2, parents: [2]}\n- Is it there?\n"
    )
    json.write_text('{"mean": "geometric", "questions": [["Is it there?", "yes"]]}')
    read = read_checklist(str(yaml))
    assert read.mean == "geometric" and read.questions == (
        Question("2", "Is it there?"),
        Question("1", "Is it noisy?", 2.0, False, "", ("2",)),
    ), "what others depend on comes first, and YAML's no is a no"
    assert read_checklist(str(json)).questions == (Question("1", "Is it there?"),)
    json.write_text('{"meta": "atoms"}')
    assert read_checklist(str(json)).meta == "atoms"
    yaml.write_text("criteria: {calm: how calm}\nlow: 0\nhigh: 3.5\noptional: true\n")
    rubric = read_rubric(str(yaml))
    assert (rubric.criteria, rubric.low, rubric.high, rubric.optional) == ({"calm": "how calm"}, 0, 3.5, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected a mapping with the keys"),
        ("[]", "expected a list of questions"),
        ("[", "is not YAML, line 1: "),
        ("5", "expected a mapping"),
        ("- ''", "question 1: `text` must be a question, got ''"),
        ("- 5", "question 1: expected a mapping"),
        ("- {txt: 'Is it?'}", "unknown key 'txt'; did you mean 'text'"),
        ("- {text: 'Is it?', weight: -1}", "`weight` must be a number of 0 or more, got -1"),
        ("- {text: 'Is it?', weight: .inf}", "`weight` must be a number"),
        (f"- {{text: 'Is it?', weight: 1{'0' * 400}}}", "line 1: .* is no int that can be read"),
        ("- 'Is it?'\n" * 201, "expected a list of questions, got .*at most 200"),
        ("- {text: 'Is it?', weight: 0}", "no question has a weight above 0"),
        ("- {text: 'A?', id: a}\n- {text: 'B?', id: a}", "two questions have the same id"),
        ("- {text: 'A?', id: a, mask: b}", "question 'a' depends on an unknown question 'b'"),
        ("- {text: 'A?', id: a, parents: [b]}\n- {text: 'B?', id: b, mask: a}", "depend on each other in a circle"),
        ("questions: ['Is it?']\nmean: median", "`mean` must be arithmetic or geometric, got 'median'"),
        ("mean: arithmetic", "give either `questions`, or `meta`"),
        ("meta: atoms\nquestions: ['Is it?']", "give either `questions`, or `meta`"),
    ],
)
def test_a_wrong_checklist_is_named(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "list.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        read_checklist(str(file))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("checklist ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("low: 1\nhigh: 5", "`criteria` must map each name to its meaning, got 'nothing'"),
        ("criteria: {}\nlow: 1\nhigh: 5", "`criteria` must map"),
        ("criteria: {a: 5}\nlow: 1\nhigh: 5", "`criteria` must map"),
        ("criteria: {reason: why}\nlow: 1\nhigh: 5", "cannot be called reason"),
        ("criteria: {a: b}\nlow: 5\nhigh: 5", "`low` and `high` must be numbers, the first one smaller, got 5 and 5"),
        ("criteria: {a: b}\nlow: no\nhigh: 5", "`low` and `high` must be numbers"),
        ("criteria: {a: b}\nlow: 1\nhigh: 5\nscale: 3", "unknown key 'scale'"),
        ("criteria: {a: b}\nlow: 1\nhigh: 5\nfps: 0", "`fps`, the frames a second that are shown, must be"),
    ],
)
def test_a_wrong_rubric_is_named(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "rubric.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=said):
        read_rubric(str(file))


def test_not_utf8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    file.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_checklist(str(file))


A, B = Question("a", "A?"), Question("b", "B?", weight=3.0)
MASKED, CHILD = Question("b", "B?", mask="a"), Question("b", "B?", parents=("a",))
GRANDCHILD = Question("c", "C?", parents=("b",))


@pytest.mark.parametrize(
    ("questions", "yes", "s"),
    [
        ([A, B], {"a": 0.25, "b": 0.5}, [0.25, 0.5]),
        ([Question("a", "A?", answer=False), MASKED], {"a": 0.75, "b": 0.5}, [0.25, NAN]),
        ([A, MASKED], {"a": 0.5, "b": 0.1}, [0.5, 0.1]),
        ([A, MASKED], {"a": 0.49, "b": None}, [0.49, NAN]),
        ([A, MASKED], {"a": None, "b": 0.9}, [None, None]),
        ([A, CHILD, GRANDCHILD], {"a": 0.4, "b": 0.9, "c": 1.0}, [0.4, 0.0, 0.0]),
        ([A, CHILD, GRANDCHILD], {"a": 0.6, "b": 0.9, "c": 1.0}, [0.6, 0.9, 1.0]),
        ([A, CHILD], {"a": 0.4, "b": None}, [0.4, 0.0]),
        ([A, CHILD], {"a": None, "b": 0.9}, [None, None]),
        ([A, MASKED, GRANDCHILD], {"a": 0.1, "b": 0.9, "c": 1.0}, [0.1, NAN, NAN]),
        ([A, B, Question("c", "C?", parents=("a", "b"))], {"a": None, "b": 0.1, "c": 1.0}, [None, 0.1, 0.0]),
    ],
)
def test_masks_and_parents(questions: list[Question], yes: dict[str, Any], s: list[float | None]) -> None:
    assert list(answers(questions, yes).values()) == pytest.approx(s, nan_ok=True)


@pytest.mark.parametrize(
    ("values", "arithmetic", "geometric"),
    [
        ((0.5, 0.5), 0.5, 0.5),
        ((0.2, 0.6), (0.2 + 3 * 0.6) / 4, (0.2 * 0.6**3) ** 0.25),
        ((0.0, 1.0), 0.75, 0.0),
        ((NAN, 0.6), 0.6, 0.6),
        ((0.2, NAN), 0.2, 0.2),
        ((NAN, NAN), NAN, NAN),
        ((None, 0.6), NAN, NAN),
    ],
)
def test_means(values: tuple[float | None, ...], arithmetic: float, geometric: float) -> None:
    s = dict(zip("ab", values, strict=True))
    assert mean([A, B], s, "arithmetic") == pytest.approx(arithmetic, nan_ok=True)
    assert mean([A, B], s, "geometric") == pytest.approx(geometric, nan_ok=True)


def test_what_has_no_weight_and_decides_nothing_may_be_unknown() -> None:
    assert mean([Question("a", "A?", weight=0.0), B], {"a": None, "b": 0.7}, "arithmetic") == pytest.approx(0.7)
