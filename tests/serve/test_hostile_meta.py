"""Whatever a client asks of a judge that ships with limner: it is judged or refused, soon, and never a 5xx."""

import asyncio
import json
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.core.media import Images
from limner.core.types import Prompt
from limner.judges import judge_of
from limner.judging.wire import CONTENT_TYPE, Limits, encode_request
from limner.rewards.algebra.tree import Leaf
from limner.serve.app import app
from serving import call

JUDGES = ["scenes", "scenes_fraction", "layout", "emoji_second", "ocr", "jpeg_size", "sharpness", "symmetry", "brisque"]
SCENE = {"category": "colors", "items": [{"count": 1, "colour": "red", "shape": "star"}], "relation": None}
PAIR = {**SCENE, "category": "position", "items": SCENE["items"] * 2, "relation": "left of"}
LAYOUT = [{"colour": "red", "region": "left"}, {"colour": "#112233", "region": [0, 0, 0.5, 0.5]}]
WELL = [{"scene": SCENE}, {"scene": PAIR}, {"layout": LAYOUT}, {"text": "HELLO"}]
KEYS = ["scene", "items", "count", "colour", "shape", "category", "relation", "layout", "region", "text"]
WORDS = st.sampled_from(["", "x", "red", "star", "left of", "#12345g", "all", "\ud800", "\ufdfa" * 50, "a red star"])
NUMBERS = st.integers(-5, 5) | st.sampled_from([10**9, 1e9, 2**53, 2**53 + 1, 10**400, 1e308, 0.5])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
TEXTS = WORDS | st.sampled_from(["three green triangles", 'say "hi"', '"' * 50, "x" * 5000, "a, b, , ,", "\x00\x1b"])
SIDES = st.sampled_from([(64, 64), (64, 64), (64, 64), (1, 1), (6, 4), (3, 200), (500, 1)])


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """Return a meta of which one place holds something else, or is missing."""
    meta = json.loads(json.dumps(draw(st.sampled_from(WELL))))
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(meta)
    node, key = draw(st.sampled_from(places))
    if draw(st.booleans()):
        node[key] = draw(JSON)
    else:
        del node[key]
    return meta


METAS = changed() | st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3) | st.sampled_from(WELL)


@pytest.mark.parametrize("name", JUDGES)
@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS, METAS), min_size=1, max_size=2), SIDES, st.booleans())
def test_a_judge_answers_or_refuses(name: str, asked: list[tuple[str, dict[str, Any]]], side: Any, noise: bool) -> None:
    pixels = torch.rand(len(asked), 3, *side, generator=torch.Generator().manual_seed(0)) if noise else torch.ones(1)
    media = Images(pixels.expand(len(asked), 3, *side))
    body = encode_request(media, [Prompt(text, meta) for text, meta in asked], 60)
    start = time.monotonic()
    status, _, answer = asyncio.run(call(hosted(name), "/v1/score", body, content_type=CONTENT_TYPE))
    assert status in (200, 422), answer
    assert b'"raised"' not in answer and (len(answer) < 1000 or status == 200) and time.monotonic() - start < 10


def hosted(name: str) -> Any:
    return app(judge_of(Leaf(name)), name)


def post(name: str, meta: dict[str, Any], count: int = 1) -> tuple[int, dict[str, Any], float]:
    body = encode_request(Images(torch.rand(count, 3, 64, 64)), [Prompt("a red star", meta)] * count, 60)
    start = time.monotonic()
    status, _, answer = asyncio.run(call(hosted(name), "/v1/score", body, content_type=CONTENT_TYPE))
    return status, json.loads(answer), time.monotonic() - start


def of(count: Any, items: int = 1) -> dict[str, Any]:
    return {"scene": {**SCENE, "items": [{"count": count, "colour": "red", "shape": "star"}] * items}}


def test_a_billion_objects_are_not_there_and_not_built() -> None:
    status, answer, seconds = post("scenes", of(10**9), 8)
    assert status == 200 and {item["score"] for item in answer["items"]} == {0.0} and seconds < 2


@pytest.mark.parametrize(
    "meta", [of(1e9), of(True), of(0), of(-1), of("1"), of(1, 100), of(2, 2), of(1, 0), {"scene": 1}]
)
def test_an_impossible_scene_is_refused(meta: dict[str, Any]) -> None:
    status, answer, seconds = post("scenes", meta)
    assert (status, answer["error"]["code"]) == (422, "refused") and seconds < 2


NESTED: Any = 0
for _ in range(9):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("meta", "code"),
    [
        ({"x": "y" * Limits().meta_chars}, "meta_too_long"),
        ({"x": [0] * Limits().meta_chars}, "meta_too_long"),
        ({"x": NESTED}, "meta_too_deep"),
        ({"x": 10**400}, "meta_number"),
        ({"x": [2**53 + 1]}, "meta_number"),
        ({"x": {"y": -(2**53) - 1}}, "meta_number"),
    ],
)
def test_meta_has_bounds(meta: dict[str, Any], code: str) -> None:
    status, answer, _ = post("jpeg_size", meta)
    assert (status, answer["error"]["code"]) == (422, code)


def test_within_the_bounds_meta_arrives() -> None:
    assert post("jpeg_size", {"x": NESTED[0][0], "y": [2**53, -(2**53), 1.5, None, True], "z": "w" * 19_000})[0] == 200


def test_a_number_that_json_cannot_hold_is_refused() -> None:
    body = encode_request(Images(torch.rand(1, 3, 8, 8)), [Prompt("a", {"x": 123456})], 60)
    body = body.replace(b"123456", b"1e9999")
    _, _, answer = asyncio.run(call(hosted("jpeg_size"), "/v1/score", body, content_type=CONTENT_TYPE))
    assert json.loads(answer)["error"]["code"] == "meta_number"


@pytest.mark.parametrize(
    ("judge", "meta"), [("layout", {"layout": LAYOUT * 33}), ("layout", {"layout": 5}), ("ocr", {"text": "x" * 1001})]
)
def test_work_without_bounds_is_refused(judge: str, meta: dict[str, Any]) -> None:
    status, answer, _ = post(judge, meta)
    assert (status, answer["error"]["code"]) == (422, "refused")
