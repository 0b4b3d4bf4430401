"""What an annotator's page may send, read strictly: it comes from outside."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from limner.core.errors import UserError
from limner.feedback.task import TIES, Kind

Type: TypeAlias = Literal["vote", "skip", "flag", "undo"]
KEY = re.compile(r"[A-Za-z0-9-]{8,64}")
MARKS = ("artifact", "misalignment")
MOST_MARKS, MOST_POINTS, MOST_WORDS, MOST_LETTERS = 64, 2000, 10_000, 2000
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Answer:
    """One event as the page tells it, sides as they were on the screen. `key` is unique: sent twice it counts once."""

    key: str
    assignment: int
    type: Type
    payload: Mapping[str, Any]
    latency_ms: int
    """From the moment that all media were shown."""
    dwell_ms: int
    """Of that, while the page was in front."""
    viewport: str


def read_answer(given: object) -> Answer:
    """Return an event of JSON. Raises UserError for one that is not of the form."""
    entry = _object(given, "an event")
    key, viewport = entry.get("key"), entry.get("viewport", "")
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise UserError("key: 8 to 64 letters, digits and hyphens are needed")
    if entry.get("type") not in get_args(Type):
        raise UserError(f"type: one of {', '.join(get_args(Type))} is needed")
    if not isinstance(viewport, str) or not re.fullmatch(r"[0-9x.@]{0,32}", viewport):
        raise UserError("viewport: such as 1280x720 is needed")
    return Answer(
        key,
        _whole(entry, "assignment", 2**53),
        entry["type"],
        _object(entry.get("payload", {}), "payload"),
        _whole(entry, "latency_ms", DAY_MS),
        _whole(entry, "dwell_ms", DAY_MS),
        viewport,
    )


def placed(payload: Mapping[str, Any], kind: Kind, questions: Sequence[str], order: Sequence[int]) -> dict[str, Any]:
    """Return a vote in the order of the task's items: `order[i]` is the place of the item that was shown i-th.

    {"choices": {question: 0, 1 or a tie}} of a pair, {"ratings": {question: 1..5}} of one item, {"order": [places, the
    best first]} of several; for all "marks", "words", "strength" and "text" as far as they were given. Raises
    UserError.
    """
    kept: dict[str, Any] = {}
    if kind == "pair":
        sides: dict[object, int | str] = {"left": order[0], "right": order[1], **{tie: tie for tie in TIES}}
        kept["choices"] = _each(payload, "choices", questions, sides)
    elif kind == "rate":
        kept["ratings"] = _each(payload, "ratings", questions, {n: n for n in range(1, 6)})
    else:
        ranked = payload.get("order")
        if not isinstance(ranked, list) or sorted(ranked, key=repr) != list(range(len(order))):
            raise UserError(f"order: each of 0 to {len(order) - 1} once is needed")
        kept["order"] = [order[place] for place in ranked]
    marks = _list(payload, "marks", MOST_MARKS)
    if marks:
        kept["marks"] = [_mark(mark, order) for mark in marks]
        if sum(len(mark["points"]) for mark in kept["marks"]) > MOST_POINTS:
            raise UserError(f"marks: at most {MOST_POINTS} points in all are kept")
    words = _list(payload, "words", MOST_WORDS)
    if words:
        kept["words"] = sorted({_whole({"words": word}, "words", MOST_WORDS) for word in words})
    if payload.get("strength") is not None:
        kept["strength"] = _whole(payload, "strength", 3)
    text = payload.get("text", "")
    if not isinstance(text, str) or len(text) > MOST_LETTERS:
        raise UserError(f"text: at most {MOST_LETTERS} letters are kept")
    return kept | ({"text": text} if text else {})


def _each(
    payload: Mapping[str, Any], name: str, questions: Sequence[str], meanings: Mapping[object, int | str]
) -> dict[str, int | str]:
    given = _object(payload.get(name), name)
    if set(given) != set(questions):
        raise UserError(f"{name}: an answer is needed to each of {', '.join(questions)}, and to nothing else")
    for answer in given.values():
        if isinstance(answer, bool) or not isinstance(answer, int | str) or answer not in meanings:
            raise UserError(f"{name}: one of {', '.join(map(str, meanings))} is needed")
    return {question: meanings[given[question]] for question in questions}


def _mark(given: object, order: Sequence[int]) -> dict[str, Any]:
    """Return a stroke of a round brush on an item, or one spot.

    {"item", "kind", "r": the brush's radius in shares of the width, "points": its middles [x, y], in shares of the
    width and of the height}.
    """
    mark = _object(given, "marks")
    place = _whole(mark, "item", len(order) - 1)
    if mark.get("kind") not in MARKS:
        raise UserError(f"marks: kind is one of {', '.join(MARKS)}")
    points = _list(mark, "points", MOST_POINTS)
    if not points or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise UserError("marks: points, a list of [x, y], are needed")
    radius, *shares = (_share(v) for v in (mark.get("r"), *(v for point in points for v in point)))
    pairs = [list(point) for point in zip(shares[::2], shares[1::2], strict=True)]
    return {"item": order[place], "kind": mark["kind"], "r": radius, "points": pairs}


def _share(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        raise UserError("marks: r, x and y from 0 to 1 are needed")
    return round(float(given), 4)


def _object(given: object, name: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise UserError(f"{name}: an object is needed")
    return given


def _list(entry: Mapping[str, Any], name: str, most: int) -> list[Any]:
    given = entry.get(name, [])
    if not isinstance(given, list) or len(given) > most:
        raise UserError(f"{name}: a list of at most {most} is needed")
    return given


def _whole(entry: Mapping[str, Any], name: str, most: int) -> int:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise UserError(f"{name}: a whole number from 0 to {most} is needed")
    return value
