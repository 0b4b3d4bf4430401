"""The layouts in which rows say which picture is better, and what a row of each says.

    Pick-a-Pic      caption, jpg_0, jpg_1, label_0, label_1 (1, .5 or 0), has_label
    HPDv2           prompt, file_path [..], human_preference [..]        its test: image_path [..], rank [..]
    HPDv3           prompt, path1, path2, choice_dist [a, b]             path1 is the preferred one
    ImageRewardDB   prompt_id, prompt, image, rank (1 is best), rows of one prompt following one another; or lists
    VideoReward     prompt, path_A, path_B, and VQ, MQ, TA, Overall as far as they are there: A, B or same
    Rapidata        prompt, image1, image2, votes_image1, votes_image2   or weighted_results_image1_preference, ..2..
    TRL             prompt, chosen, rejected                             KTO: prompt, completion or image, label
    Flow-Factory    schema_version 2, input.prompt, supervision of type "preference", chosen.media, rejected.media
    limner          prompt, media_a, media_b, choice: a, b, tie, tie_good or tie_bad; or counts: votes_a, votes_b,
                    ties_good, ties_bad, of several questions in dims; annotators; asked: "active" of a pair that was
                    chosen since it tells much, and is not for measuring

A picture is the path of a file, its bytes, or {"bytes": ..., "path": ...}, as datasets has them. A pair of clips of any
layout may have `segments` beside, what was said of its parts in time, and `segment_frames`, how long these are; one of
limner's needs no choice then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from limner.core.errors import shown

Row: TypeAlias = Mapping[str, Any]
Votes: TypeAlias = tuple[float, float, float]
"""How many, or what shares, said of a pair: the first, a tie, the second."""


class Unusable(Exception):
    """What is wrong with a row."""


@dataclass(frozen=True)
class Segments:
    """What was said of a pair's parts in time: 1 where the first clip is better, -1 where the second is, 0 for a tie.

    A label may lie between, as shares of votes do. Each part has `frames` frames, the last one perhaps fewer; None: the
    clips were cut into equal parts.
    """

    labels: tuple[float, ...]
    frames: int | None = None

    @property
    def worth(self) -> tuple[float, float]:
        """What the clips are worth as a whole: (1, 0) where the first is better in more of them; a tie is (.5, .5)."""
        first = (1 + (sum(self.labels) > 0) - (sum(self.labels) < 0)) / 2
        return first, 1 - first


@dataclass(frozen=True)
class Said:
    """What a row says: its prompt ("" if it has none), pictures by path or bytes, and what each is worth.

    Of a pair perhaps also the `votes`, by question, who cast them, the kind of prompt, and what was said of its parts.
    """

    prompt: str
    pictures: tuple[str | bytes, ...]
    worth: tuple[float, ...]
    votes: Mapping[str, Votes] = field(default_factory=dict)
    people: tuple[str, ...] = ()
    category: str = ""
    segments: Segments | None = None
    active: bool = False
    """Whether it was asked since that was expected to tell much, so that it is not one of all by chance."""


def preference_of(row: Row) -> Said | None:
    """Return what a row says; None where nobody was asked. Raises Unusable for what is of no known layout."""
    row = {key: value for key, value in row.items() if value is not None and value != ""}
    for keys, read in LAYOUTS:
        if all(any(key in row for key in either) for either in keys):
            said, segments = read(row), _segments(row)
            if said is None or segments is None:
                return said
            if len(said.pictures) != 2:
                raise Unusable(f"segments say which of two clips is better, and the row has {len(said.pictures)}")
            return replace(said, segments=segments)
    raise Unusable(f"no layout is known with the columns {', '.join(sorted(row)) or 'none'}; see docs/preferences.md")


def _segments(row: Row) -> Segments | None:
    if "segments" not in row:
        return None
    labels = tuple(_number(each) for each in _listed(_unquoted(row["segments"])))
    if not labels or not all(-1 <= each <= 1 for each in labels):
        raise Unusable(
            "segments are numbers from -1 to 1, one for each part of the clips, as in [1, 0, -1]: 1 where the first "
            f"clip is better; got {shown(row['segments'])}"
        )
    if "segment_frames" not in row:
        return Segments(labels)
    frames = _number(row["segment_frames"])
    if frames < 1 or frames != int(frames):
        raise Unusable(f"segment_frames, how many frames a segment has, is a whole number, got {frames:g}")
    return Segments(labels, int(frames))


def _unquoted(value: Any) -> Any:
    """Return a list that a cell of a table has as text, as in "[1, -1]" or "1 -1"."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value.replace(",", " ").split()


def _picture(value: Any) -> str | bytes:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return value
    if isinstance(value, str) and value.strip():
        return value
    raise Unusable(f"a picture is the path of a file or its bytes, got {type(value).__name__} {shown(value)}")


YES_NO = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


def _number(value: Any) -> float:
    said = value.strip().lower() if isinstance(value, str) else value
    try:
        number = YES_NO[said] if isinstance(said, str) and said in YES_NO else float(said)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Unusable(f"expected a number, got {shown(value)}")
    return number


def _said(row: Row, pictures: Sequence[Any], worth: Sequence[float]) -> Said:
    prompt = next((row[key] for key in ("prompt", "caption", "text") if key in row), "")
    if not isinstance(prompt, str):
        raise Unusable(f"a prompt is a text, got {type(prompt).__name__}")
    if len(pictures) != len(worth) or not pictures:
        raise Unusable(f"{len(pictures)} pictures, but {len(worth)} judgements")
    if not all(0 <= each <= 1 for each in worth):
        raise Unusable(f"what a picture is worth lies between 0 and 1, got {', '.join(f'{w:g}' for w in worth)}")
    category = str(row.get("category", ""))
    return Said(prompt.strip(), tuple(map(_picture, pictures)), tuple(worth), category=category)


def _shares(a: Any, b: Any) -> tuple[float, float]:
    """Return the shares of votes of two; nobody's votes are a tie."""
    first, second = _number(a), _number(b)
    if min(first, second) < 0:
        raise Unusable(f"votes are no less than 0, got {first:g} and {second:g}")
    total = first + second
    return (first / total, second / total) if total > 0 else (0.5, 0.5)


def _pick_a_pic(row: Row) -> Said | None:
    if "has_label" in row and not _number(row["has_label"]):
        return None
    first = _number(row["label_0"])
    second = _number(row["label_1"]) if "label_1" in row else 1 - first
    return _said(row, [row["jpg_0"], row["jpg_1"]], [first, second])


def _preferred(row: Row) -> Said:
    pictures = row["file_path"] if "file_path" in row else row["image_path"]
    return _said(row, _listed(pictures), [_number(each) for each in _listed(row["human_preference"])])


def _ranked(row: Row) -> Said:
    """Return worths from ranks, the lowest being best: 1 for it, 0 for the highest, and evenly between."""
    pictures = next(row[key] for key in ("image_path", "image", "images") if key in row)
    ranks = [_number(each) for each in _listed(row["rank"])]
    low, high = min(ranks, default=0.0), max(ranks, default=0.0)
    worth = [(high - each) / (high - low) if high > low else 0.5 for each in ranks]
    return _said(row, _listed(pictures), worth)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _hpd3(row: Row) -> Said:
    votes = row.get("choice_dist")
    worth = _shares(*votes) if isinstance(votes, list | tuple) and len(votes) == 2 else (1.0, 0.0)
    return _said(row, [row["path1"], row["path2"]], sorted(worth, reverse=True))


def _video_reward(row: Row) -> Said:
    said = [str(row[name]).strip().lower() for name in ("Overall", "VQ", "MQ", "TA") if name in row]
    if not said or not set(said) <= {"a", "b", "same"}:
        raise Unusable("VQ, MQ, TA and Overall say A, B or same, and one of them must be there")
    first = sum({"a": 1.0, "same": 0.5, "b": 0.0}[each] for each in said) / len(said)
    votes = {"a": (1.0, 0.0, 0.0), "same": (0.0, 1.0, 0.0), "b": (0.0, 0.0, 1.0)}
    names = [name for name in ("Overall", "VQ", "MQ", "TA") if name in row]
    both = _said(row, [row["path_A"], row["path_B"]], [first, 1 - first])
    return replace(both, votes={name: votes[each] for name, each in zip(names, said, strict=True)})


def _rapidata(row: Row) -> Said:
    names = ("votes_image1", "votes_image2")
    if names[0] not in row:
        names = ("weighted_results_image1_preference", "weighted_results_image2_preference")
    if not all(name in row for name in names):
        raise Unusable("image1 and image2 need votes_image1 and votes_image2")
    return _said(row, [row["image1"], row["image2"]], _shares(*(row[name] for name in names)))


def _chosen(row: Row) -> Said:
    return _said(row, [row["chosen"], row["rejected"]], [1.0, 0.0])


def _better(row: Row) -> Said:
    return _said(row, [row["img_better"], row["img_worse"]], [1.0, 0.0])


def _labelled(row: Row) -> Said:
    picture = next(row[key] for key in ("completion", "image", "file_name") if key in row)
    return _said(row, [picture], [_number(row["label"])])


def _flow_factory(row: Row) -> Said:
    supervision, asked = row["supervision"], row.get("input")
    if not isinstance(supervision, Mapping) or supervision.get("type") != "preference":
        raise Unusable('its supervision is not of type "preference"; demonstrations are for --source Pictures')
    prompt = asked.get("prompt", "") if isinstance(asked, Mapping) else ""
    return _said({"prompt": prompt}, [_first(supervision.get(side)) for side in ("chosen", "rejected")], [1.0, 0.0])


def _first(candidate: Any) -> Any:
    media = candidate.get("media") if isinstance(candidate, Mapping) else None
    if not isinstance(media, list) or len(media) != 1 or not isinstance(media[0], Mapping):
        raise Unusable("chosen and rejected have one medium each")
    return media[0].get("path")


CHOICES = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5), "tie_good": (1.0, 1.0), "tie_bad": (0.0, 0.0)}


def _voted(row: Row) -> Said:
    dims = row.get("dims") or ({"overall": row} if "votes_a" in row else {})
    if not isinstance(dims, Mapping) or not all(each is None or isinstance(each, Mapping) for each in dims.values()):
        raise Unusable("dims has, for each question, an object with votes_a, votes_b, ties_good and ties_bad")
    votes = {str(name): _counted(each) for name, each in dims.items() if each is not None}
    if "choice" in row:
        choice = str(row["choice"]).strip().lower()
        if choice not in CHOICES:
            raise Unusable(f"choice is one of {', '.join(CHOICES)}, got {choice[:40]!r}")
        worth = CHOICES[choice]
    elif not votes and (segments := _segments(row)) is not None:
        worth = segments.worth
    elif not votes:
        raise Unusable("it has no choice, and no votes")
    else:
        first, tie, second = next(iter(votes.values()))
        worth = _shares(first + tie / 2, second + tie / 2)
    people = tuple(str(each) for each in _listed(row["annotators"])) if "annotators" in row else ()
    said = _said(row, [row["media_a"], row["media_b"]], worth)
    return replace(said, votes=votes, people=people, active="active" in _listed(row.get("asked")))


def _counted(counts: Mapping[str, Any]) -> Votes:
    first, second, good, bad = (_number(counts.get(name, 0)) for name in COUNTS)
    if min(first, second, good, bad) < 0 or first + second + good + bad == 0:
        raise Unusable(f"{', '.join(COUNTS)} are 0 or more, and not all 0")
    return first, good + bad, second


COUNTS = ("votes_a", "votes_b", "ties_good", "ties_bad")


LAYOUTS: Sequence[tuple[Sequence[tuple[str, ...]], Callable[[Row], Said | None]]] = (
    ((("jpg_0",), ("jpg_1",), ("label_0",)), _pick_a_pic),
    ((("file_path", "image_path"), ("human_preference",)), _preferred),
    ((("path1",), ("path2",)), _hpd3),
    ((("path_A",), ("path_B",)), _video_reward),
    ((("image1",), ("image2",)), _rapidata),
    ((("media_a",), ("media_b",), ("choice", "votes_a", "dims", "segments")), _voted),
    ((("img_better",), ("img_worse",)), _better),
    ((("chosen",), ("rejected",)), _chosen),
    ((("image_path", "image", "images"), ("rank",)), _ranked),
    ((("completion", "image", "file_name"), ("label",)), _labelled),
    ((("supervision",),), _flow_factory),
)
"""Of each layout, the columns that it is known by, one of each group, and who reads it."""
