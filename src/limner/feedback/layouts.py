"""Rows of an export in the layouts that others read: Pick-a-Pic, HPDv2, VideoReward, TRL, KTO."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from limner.core.errors import UserError
from limner.feedback.export import ExportRow, winner
from limner.feedback.task import OVERALL

Layout: TypeAlias = Literal["limner", "pick_a_pic", "hpd", "video_reward", "trl", "kto"]
LIKED = 0.5
"""A rating above the middle is a liked picture to KTO, one below it is not."""
DIMENSIONS = {"quality": "VQ", "motion": "MQ", "alignment": "TA", OVERALL: "Overall"}
"""What VideoReward calls a question."""
SAME = {"a": "A", "b": "B", "tie_good": "same", "tie_bad": "same"}


def laid_out(rows: Iterable[ExportRow], layout: Layout) -> Iterator[ExportRow]:
    """Yield rows of an export in another layout; what that has no place for is left out.

    Pairs that nobody's side of won, and ties, are pairs of Pick-a-Pic with halves, and of VideoReward "same"; HPDv2 and
    TRL know no ties; to KTO "both good" are two liked pictures, and "both bad" two that are not. Rankings stand in
    HPDv2's as they are, and are no rows of others.
    """
    for row in rows:
        yield from LAYOUTS[layout](row)


def _as_it_is(row: ExportRow) -> Iterator[ExportRow]:
    yield row


def _pick_a_pic(row: ExportRow) -> Iterator[ExportRow]:
    if "media_a" in row:
        first = {"a": 1.0, "b": 0.0}.get(row["choice"], 0.5)
        media = {"jpg_0": row["media_a"], "jpg_1": row["media_b"], "label_0": first, "label_1": 1 - first}
        yield {"caption": row["prompt"], **media, "are_different": True, "has_label": True}


def _hpd(row: ExportRow) -> Iterator[ExportRow]:
    if row.get("choice") in ("a", "b"):
        chosen = [int(row["choice"] == side) for side in ("a", "b")]
        yield {
            "prompt": row["prompt"],
            "file_path": [row["media_a"], row["media_b"]],
            "human_preference": chosen,
        }
    if "rank" in row:
        yield {"prompt": row["prompt"], "image_path": row["images"], "rank": row["rank"]}


def _video_reward(row: ExportRow) -> Iterator[ExportRow]:
    if "media_a" in row:
        said = {DIMENSIONS.get(name): SAME.get(winner(counts), "same") for name, counts in row["dims"].items()}
        known = {name: each for name, each in said.items() if name is not None}
        if not known:
            raise UserError(f"--layout video_reward: its questions are {', '.join(DIMENSIONS)}, and none was asked")
        yield {"path_A": row["media_a"], "path_B": row["media_b"], "prompt": row["prompt"], **known}


def _trl(row: ExportRow) -> Iterator[ExportRow]:
    if row.get("choice") in ("a", "b"):
        better, worse = ("media_a", "media_b") if row["choice"] == "a" else ("media_b", "media_a")
        yield {"prompt": row["prompt"], "chosen": row[better], "rejected": row[worse]}


def _kto(row: ExportRow) -> Iterator[ExportRow]:
    liked: Mapping[str, tuple[bool, bool]] = {
        "a": (True, False),
        "b": (False, True),
        "tie_good": (True, True),
        "tie_bad": (False, False),
    }
    for side, label in zip(("media_a", "media_b"), liked.get(row.get("choice", ""), ()), strict=False):
        yield {"prompt": row["prompt"], "completion": row[side], "label": label}
    if "label" in row and row["label"] != LIKED:
        yield {"prompt": row["prompt"], "completion": row["image"], "label": row["label"] > LIKED}


LAYOUTS: Mapping[Layout, Callable[[Any], Iterator[ExportRow]]] = {
    "limner": _as_it_is,
    "pick_a_pic": _pick_a_pic,
    "hpd": _hpd,
    "video_reward": _video_reward,
    "trl": _trl,
    "kto": _kto,
}
