"""Replies: spellings of yes and no, JSON and what only resembles it, and texts that are not ours."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.rewards.vlm.asking import _read
from limner.rewards.vlm.forms import Rubric
from limner.rewards.vlm.pairwise import read_winner
from limner.rewards.vlm.reply import Unreadable, clean, decode, json_object, tokens, yes_no
from limner.rewards.vlm.rubric import read_numbers
from limner.rewards.vlm.service import Outcome
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
        top({"token": "Yes", "logprob": 10**400}),
        top({"token": "Yes", "logprob": False}),
        top(*[{"token": token, "logprob": 0.0} for token in ("Yes", "yes", " yes", "YES", "no", "No", "a", "b", "c")]),
        top({"token": "Yes", "logprob": math.log(0.7)}, {"token": "The", "logprob": math.log(0.4)}),
        top({"token": 5, "logprob": -0.5}),
        top({"token": "Perhaps", "logprob": -0.1}, {"token": "<think>", "logprob": -3.0}),
    ],
)
def test_missing_or_odd_log_probabilities_are_unreadable(payload: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        yes_no(payload)


def test_a_log_probability_of_400_digits_is_that_of_nothing() -> None:
    assert yes_no(top({"token": "Yes", "logprob": -(10**400)}, {"token": "no", "logprob": -1.0}))[0] == 0.0


def test_probabilities_may_add_up_to_one_as_they_are_rounded() -> None:
    """bfloat16 keeps eight bits of a log-probability."""
    rounded = torch.tensor([0.5, 0.25, 0.25]).log().bfloat16().tolist()
    pairs = zip(("yes", "no", "The"), rounded, strict=True)
    assert yes_no(top(*[{"token": t, "logprob": p} for t, p in pairs]))[0] == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 1}',
        '\n {"a": 1}\n',
        '```json\n{"a": 1}\n```',
        '```\n{"a": 1}\n```\n',
        '```json  \r\n\n{"a": 1}\r\n\n ```',
    ],
)
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
        "```" + "\n" * 100_000,
        "```" + "\n" * 100_000 + "```x",
        "```" + "\n " * 100_000 + "{\n```",
        "```json" + " " * 100_000 + "```",
        "```",
        "``````",
    ],
    ids=lambda content: content[:20],
)
def test_anything_else_is_not_guessed_at(content: str) -> None:
    start = time.monotonic()
    with pytest.raises(Unreadable) as caught:
        json_object(text(content).body)
    assert len(str(caught.value)) < 1200 and time.monotonic() - start < 1


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
    odd: list[Any] = [None, 5, {"prompt_tokens": -4, "completion_tokens": "many"}, {"prompt_tokens": True}]
    odd += [{"prompt_tokens": 10**400}, {"completion_tokens": 2**53 + 1}]
    assert [tokens({"usage": usage}) for usage in odd] == [(0, 0)] * 6 and tokens({}) == (0, 0)
    assert decode(b'{"a": 1}') == {"a": 1} and decode(b"[1]") is None and decode(b"\xff") is None


LEAVES = st.sampled_from(
    [None, True, "yes", " No", "```", 0, -1, 0.0, -0.1, 1e308, -(10**400), 10**400, math.nan, -math.inf]
)
KEYS = st.sampled_from(
    ["choices", "logprobs", "content", "top_logprobs", "token", "logprob", "message", "usage", "winner"]
)
JSON = st.recursive(LEAVES, lambda x: st.lists(x, max_size=3) | st.dictionaries(KEYS, x, max_size=3), max_leaves=20)
ENTRIES = st.lists(st.fixed_dictionaries({"token": LEAVES | st.text(max_size=3), "logprob": LEAVES}) | JSON, max_size=5)
PAYLOADS = st.dictionaries(KEYS, JSON, max_size=3) | ENTRIES.map(lambda entries: top(*entries))
CONTENTS = st.text(st.sampled_from('`json{}[]":,\\ \n0e9-\x00'), max_size=40) | JSON.map(json.dumps)
RUBRIC = Rubric({"winner": "a", "token": "b"}, 1, 5, optional=True)


@settings(max_examples=400)
@given(PAYLOADS | CONTENTS.map(lambda content: text(content).body))
def test_whatever_a_service_says_is_read_or_unreadable(payload: dict[str, Any]) -> None:
    readers: list[Callable[[Any], Any]] = [yes_no, read_winner, lambda reply: read_numbers(RUBRIC, json_object(reply))]
    for read in readers:
        verdict = _read(Outcome(payload), read)
        assert verdict.value is not None or verdict.reason
        numbers = [n for part in verdict.value or () for n in (part if isinstance(part, list) else [part])]
        assert not any(n < 0 or n > 5 for n in numbers if isinstance(n, float))
    assert all(0 <= count <= 2**53 for count in tokens(payload))


def test_what_is_nested_beyond_showing_is_unreadable() -> None:
    deep: Any = 0
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    assert _read(Outcome(top(deep)), yes_no).value is None
