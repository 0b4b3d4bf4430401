"""What a rubric and a checklist are, and how a user's file or a prompt's own data becomes one."""

from __future__ import annotations

import graphlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard, get_args

from limner.core.errors import UserError, nearest
from limner.core.paths import path_of, text_of
from limner.core.plain import MAX_BYTES, plain

Mean: TypeAlias = Literal["arithmetic", "geometric"]
WORDS = {"yes": True, "no": False}
MOST_QUESTIONS = 200


@dataclass(frozen=True)
class Rubric:
    """Named criteria, each judged by a number from `low` to `high`; `optional`: one that does not apply may be null."""

    criteria: Mapping[str, str]
    low: float
    high: float
    optional: bool = False
    source: str = ""
    fps: float | None = None
    """Frames of each of a clip's seconds that are shown, as the judge is told; None: a number of frames."""


@dataclass(frozen=True)
class Question:
    """A question whose right answer is yes, or no if not `answer`.

    `weight` is its share of the score, 0 for one that only serves others. If the question `mask` is answered wrongly it
    does not apply and leaves the mean; if one of `parents` is, it counts 0, whatever the reply to it.
    """

    id: str
    text: str
    weight: float = 1.0
    answer: bool = True
    mask: str = ""
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checklist:
    """Questions for every picture, or those under `meta` in a prompt's own data, and the mean that makes the score."""

    questions: tuple[Question, ...] = ()
    meta: str = ""
    mean: Mean = "arithmetic"
    source: str = ""


def read_rubric(path: str) -> Rubric:
    """Return the rubric in a YAML or JSON file: `criteria` (name: meaning), `low`, `high`, maybe `optional`, `fps`."""
    where = f"rubric {path}"
    tree = _mapping(_read(path, where), ("criteria", "low", "high", "optional", "fps"), where)
    criteria, low, high = (tree.get(key, "nothing") for key in ("criteria", "low", "high"))
    if not isinstance(criteria, dict) or not criteria or not all(isinstance(v, str) for v in criteria.values()):
        raise UserError(f"{where}: `criteria` must map each name to its meaning, got {criteria!r}")
    if "reason" in criteria:
        raise UserError(f"{where}: a criterion cannot be called reason, which is where the judge explains itself")
    if not (_number(low) and _number(high) and low < high):
        raise UserError(f"{where}: `low` and `high` must be numbers, the first one smaller, got {low!r} and {high!r}")
    if (fps := tree.get("fps")) is not None and not (_number(fps) and fps > 0):
        raise UserError(f"{where}: `fps`, the frames a second that are shown, must be a number above 0, got {fps!r}")
    named = {str(k): v for k, v in criteria.items()}
    return Rubric(named, low, high, tree.get("optional", False) is True, Path(path).name, fps)


def read_checklist(path: str) -> Checklist:
    """Return the checklist in a YAML or JSON file: a list of questions, or `questions` (or `meta`) and `mean`."""
    where = f"checklist {path}"
    tree = _read(path, where)
    if isinstance(tree, list):
        return Checklist(questions_of(tree, where), source=Path(path).name)
    tree = _mapping(tree, ("questions", "meta", "mean"), where)
    mean, meta = tree.get("mean", "arithmetic"), tree.get("meta", "")
    if mean not in get_args(Mean):
        raise UserError(f"{where}: `mean` must be {' or '.join(get_args(Mean))}, got {mean!r}")
    if not isinstance(meta, str) or bool(meta) == ("questions" in tree):
        raise UserError(f"{where}: give either `questions`, or `meta`, the key of the prompts' data that holds them")
    return Checklist(() if meta else questions_of(tree["questions"], where), meta, mean, Path(path).name)


def questions_of(entries: Any, where: str) -> tuple[Question, ...]:
    """Return a list of questions, parents and masks first: each a text, [question, answer], or keys of `Question`.

    Without an id it is called by its place, from 1. An answer other than yes or no is proposed to the judge, who says
    whether it is right. Raises UserError for anything else, ids that are not unique or known, circles, and no weight.
    """
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_QUESTIONS:  # each is a request
        raise UserError(f"{where}: expected a list of questions, got {entries!r:.200} (at most {MOST_QUESTIONS})")
    questions = tuple(_question(entry, f"{where}, question {i}", str(i)) for i, entry in enumerate(entries, 1))
    if len(set(ids := [question.id for question in questions])) != len(ids):
        raise UserError(f"{where}: two questions have the same id (ids: {', '.join(ids)})")
    needs = {q.id: [*q.parents, *filter(None, [q.mask])] for q in questions}
    for id_, needed in needs.items():
        for other in set(needed) - set(ids):
            raise UserError(f"{where}: question {id_!r} depends on an unknown question {other!r}{nearest(other, ids)}")
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        raise UserError(f"{where}: questions depend on each other in a circle: {' > '.join(error.args[1])}") from None
    if not any(question.weight for question in questions):
        raise UserError(f"{where}: no question has a weight above 0")
    return tuple(sorted(questions, key=lambda question: order.index(question.id)))


def _question(entry: Any, where: str, place: str) -> Question:
    if isinstance(entry, list) and len(entry) == 2:
        entry = dict(zip(("text", "answer"), entry, strict=True))
    tree = _mapping({"text": entry} if isinstance(entry, str) else entry, tuple(Question.__annotations__), where)
    text, answer, weight = tree.get("text"), tree.get("answer", True), tree.get("weight", 1)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: `text` must be a question, got {text!r}")
    if not _number(weight) or weight < 0:
        raise UserError(f"{where}: `weight` must be a number of 0 or more, got {weight!r}; a bad sign has `answer: no`")
    if not isinstance(answer, bool):  # YAML reads an unquoted yes or no as true or false
        proposed = str(answer).strip()
        if proposed.lower() not in WORDS:
            text = f"{text} The proposed answer is: {proposed}. Is the proposed answer right?"
        answer = WORDS.get(proposed.lower(), True)
    parents = tree.get("parents", [])
    above = tuple(str(parent) for parent in (parents if isinstance(parents, list) else [parents]))
    return Question(str(tree.get("id", place)), text, float(weight), answer, str(tree.get("mask", "")), above)


def _read(path: str, where: str) -> Any:
    return plain(text_of(path_of(path, where), where, MAX_BYTES), where)


def _mapping(tree: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise UserError(f"{where}: expected a mapping with the keys {', '.join(keys)}, got {type(tree).__name__}")
    for key in tree:
        if key not in keys:
            raise UserError(f"{where}: unknown key {key!r}{nearest(str(key), keys)}")
    return tree


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
