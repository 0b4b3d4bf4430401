"""Whatever a stranger sends, it is read or refused: never another error, and never a reward that is none."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from limner.core.media import Images
from limner.core.types import Prompt
from limner.judging.rows import from_rows
from limner.judging.strict import Refused
from limner.judging.wire import LIMITS, decode_answer, decode_error, decode_request, encode_request

GOOD = encode_request(Images(torch.zeros(2, 3, 4, 4)), [Prompt("a", {"n": [1, {"m": 2.5}]}), Prompt("b")], 9)
SIZE = int.from_bytes(GOOD[:8], "little")
HEADER = json.loads(GOOD[8 : 8 + SIZE])
CONTENT = json.loads(HEADER["__metadata__"]["request"])
WHOLE = {"components": {"a": 1.5}, "uncertainty": 0.5, "explanation": "b", "maps": {"c": [[1, 2]]}}
ITEMS = [{"id": i, "ok": True, "score": 0.5, **WHOLE} for i in range(2)]
ANSWER = {"protocol": "1", "reward": {"name": "n", "identity": "i"}, "items": ITEMS, "server": {}}

NUMBERS = [0, 1, -1, 0.5, 1e308, 2**53 + 1, 10**400, -(10**400)]
LEAVES = st.sampled_from([None, True, False, "", "1", "images", "\ud800", "x" * 300, math.nan, math.inf, *NUMBERS])
KEYS = st.sampled_from(["id", "ok", "score", "components", "maps", "a", "items", "meta", "text", "shape", "protocol"])
JSON = st.recursive(LEAVES, lambda x: st.lists(x, max_size=4) | st.dictionaries(KEYS, x, max_size=4), max_leaves=10)
EXAMPLES = settings(max_examples=600)


@st.composite
def changed(draw: st.DrawFn, whole: Any) -> Any:
    """Return a tree in which up to three places hold something else, are missing, or are there twice."""
    tree = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        places: list[tuple[Any, Any]] = []

        def walk(node: Any, places: list[tuple[Any, Any]]) -> None:
            for key in [*node] if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
                places.append((node, key))
                walk(node[key], places)

        walk(tree, places)
        if not places:
            return draw(JSON)
        node, key = draw(st.sampled_from(places))
        how = draw(st.integers(0, 4))
        if how == 0:
            del node[key]
        elif how == 1 and isinstance(node, list):
            node.append(node[key])
        else:
            node[key] = draw(JSON)
    return tree


def blob(header: Any, data: bytes = GOOD[8 + SIZE :]) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def flipped(places: Sequence[tuple[int, int]]) -> bytes:
    body = bytearray(GOOD)
    for place, value in places:
        body[place % (8 + SIZE)] = value
    return bytes(body)


REQUESTS = st.one_of(
    st.binary(max_size=200),
    st.integers(0, len(GOOD)).map(lambda end: GOOD[:end]),
    st.lists(st.tuples(st.integers(0, 8 + SIZE), st.integers(0, 255)), min_size=1, max_size=6).map(flipped),
    changed(HEADER).map(blob),
    changed(CONTENT).map(lambda content: blob({**HEADER, "__metadata__": {"request": json.dumps(content)}})),
    st.sampled_from([torch.int8, torch.float16, torch.bool]).map(
        lambda dtype: save({"frames": torch.zeros(2, 1, 4, 4, 3, dtype=dtype)}, HEADER["__metadata__"])
    ),
)


@EXAMPLES
@given(REQUESTS)
def test_a_request_is_read_or_refused_for_good(body: bytes) -> None:
    try:
        request = decode_request(body, LIMITS)
    except Refused as refused:
        assert refused.status in (400, 413, 422), "no status that is asked again"
        return
    assert len(request.media) == len(request.prompts) == len(request.ids) == 2
    assert request.media.frames().isfinite().all() and (request.seconds is None or request.seconds == request.seconds)
    for prompt in request.prompts:
        assert len(json.dumps(prompt.meta, allow_nan=False)) <= LIMITS.meta_chars


@EXAMPLES
@given(changed(ANSWER).map(lambda answer: json.dumps(answer).encode()) | st.binary(max_size=100))
def test_an_answer_is_believed_only_if_it_is_of_its_form(body: bytes) -> None:
    assert len(decode_error(body)) <= 300 and decode_error(body).isprintable()
    try:
        answer = decode_answer(body, 2)
    except Refused:
        return
    assert [(type(row["id"]), row["id"]) for row in answer.rows] == [(int, 0), (int, 1)]
    require_sound(from_rows(answer.rows), answer.rows)


@EXAMPLES
@given(changed([item | {"score": 0.25} for item in ITEMS]))
def test_rows_are_a_judges_answer_or_refused(rows: Any) -> None:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return
    try:
        output = from_rows(rows)
    except Refused:
        return
    require_sound(output, rows)


def require_sound(output: Any, rows: Sequence[Any]) -> None:
    """A score is valid if its row says so, holds a number, and the number is finite in float64; else it is NaN."""
    numbers = [row.get("score") for row in rows]
    finite = [type(n) in (int, float) and abs(n) < 1.8e308 for n in numbers]
    expected = [row.get("ok") is True and fine for row, fine in zip(rows, finite, strict=True)]
    assert output.valid.tolist() == expected and (output.score.isfinite() == output.valid).all()
    columns = [*output.components.values(), *output.maps.values()]
    assert all(column.dtype == torch.float64 and len(column) == len(rows) for column in columns)
    assert not any(column.isinf().any() for column in columns)
