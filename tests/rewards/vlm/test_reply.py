"""Replies: spellings of yes and no, JSON and what only resembles it, and texts that are not ours."""

from __future__ import annotations

import math
from typing import Any

import pytest

from limner.rewards.vlm.reply import Unreadable, clean, decode, json_object, tokens, yes_no
from rewards.vlm.server import first_token, text


def top(*entries: Any) -> dict[str, Any]:
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": list(entries)}]}}]}


@pytest.mark.parametrize(
    ("probabilities", "p", "mass"),
    [
        ({"Yes": 0.8, "No": 0.2}, 0.8, 1.0),
        ({"Yes": 0.3, " yes": 0.2, "YES": 0.1, "No": 0.15, " no": 0.05, "The": 0.1}, 0.75, 0.8),
        ({"▁Yes": 0.3, "ĠYes": 0.1, "no.": 0.1, "**No": 0.1}, 4 / 6, 0.6),
        ({"The": 0.98, "yes": 0.003, "no": 0.001}, 0.75, 0.004),
        ({"Yes": 0.7, "Maybe": 0.3}, 1.0, 0.7),
        ({"no": 0.2, "Yesterday": 0.5, "Not": 0.2, "None": 0.1}, 0.0, 0.2),
    ],
)
def test_spellings_add_up(probabilities: dict[str, float], p: float, mass: float) -> None:
    assert yes_no(first_token(probabilities).body) == pytest.approx((p, mass), rel=1e-12)


def test_only_the_first_token_counts() -> None:
    payload = first_token({"yes": 0.75, "no": 0.25}).body
    payload["choices"][0]["logprobs"]["content"] += first_token({"no": 1.0}).body["choices"][0]["logprobs"]["content"]
    assert yes_no(payload) == pytest.approx((0.75, 1.0))


def test_a_floor_is_no_answer() -> None:
    """Some services write -9999 for a probability of 0."""
    floor = {"token": "yes", "logprob": -9999.0}
    assert yes_no(top(floor, {"token": "no", "logprob": -1.0})) == (0.0, pytest.approx(math.exp(-1)))
    with pytest.raises(Unreadable, match="neither yes nor no"):
        yes_no(top(floor, {"token": "no", "logprob": -9999.0}))
    assert yes_no(top({"token": "yes", "logprob": 1e-6})) == (1.0, 1.0), "a rounded 0"


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [{"message": {"content": "Yes"}}]},
        {"choices": [{"message": {"content": "Yes"}, "logprobs": None}]},
        {"choices": [{"logprobs": {"content": []}}]},
        {"choices": [{"logprobs": {"content": [{"token": "Yes", "logprob": -0.1}]}}]},
        {"choices": [{"logprobs": {"content": [{"top_logprobs": "Yes"}]}}]},
        top(),
        top("Yes"),
        top({"token": "Yes"}),
        top({"token": "Yes", "logprob": None}),
        top({"token": "Yes", "logprob": True}),
        top({"token": "Yes", "logprob": "-0.1"}),
        top({"token": "Yes", "logprob": math.nan}),
        top({"token": "Yes", "logprob": 0.5}),
        top({"token": 5, "logprob": -0.5}),
        top({"token": "Perhaps", "logprob": -0.1}, {"token": "<think>", "logprob": -3.0}),
    ],
)
def test_missing_or_odd_log_probabilities_are_unreadable(payload: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        yes_no(payload)


@pytest.mark.parametrize("content", ['{"a": 1}', '\n {"a": 1}\n', '```json\n{"a": 1}\n```', '```\n{"a": 1}\n```\n'])
def test_a_whole_json_object_is_read(content: str) -> None:
    assert json_object(text(content).body) == {"a": 1}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "5",
        "[1, 2]",
        "null",
        '{"a": 1',
        '{"a": 1}}',
        '{"a": 1} {"a": 5}',
        'The verdict is {"a": 1}',
        '{"a": 1} as you wished',
        '```json\n{"a": 1}',
        "{'a': 1}",
        '{"a": 1, "a": 5}',
        '{"b": {"a": 1, "a": 5}}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + "[" * 100_000,
    ],
    ids=lambda content: content[:20],
)
def test_anything_else_is_not_guessed_at(content: str) -> None:
    with pytest.raises(Unreadable) as caught:
        json_object(text(content).body)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize(
    "payload", [{}, {"choices": [{"message": {"content": None}}]}, {"choices": [{"message": "x"}]}]
)
def test_no_text_is_unreadable(payload: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        json_object(payload)


def test_texts_that_are_not_ours_are_made_harmless() -> None:
    assert clean("fine,\n\n two\tlines ") == "fine, two lines"
    assert clean("\x1b[31mred\x00\x9b\u202eevil\u2066\ufeff\U000e0041\ue000") == "[31mred evil"
    assert clean("é 字 👍") == "é 字 👍"
    assert len(clean("word " * 1000)) == 500 and clean("x" * 501) == "x" * 499 + "…" and clean("x" * 500) == "x" * 500


def test_what_a_service_says_of_cost() -> None:
    assert tokens({"usage": {"prompt_tokens": 12, "completion_tokens": 3}}) == (12, 3)
    assert tokens({"usage": {"prompt_tokens": 12}}) == (12, 0)
    for odd in ({}, {"usage": None}, {"usage": 5}, {"usage": {"prompt_tokens": -4, "completion_tokens": "many"}}):
        assert tokens(odd) == (0, 0)
    assert decode(b'{"a": 1}') == {"a": 1} and decode(b"[1]") is None and decode(b"\xff") is None
