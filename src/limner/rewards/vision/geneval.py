"""GenEval's rules: what makes a picture right, given the things that were found in it.

Source: GenEval (arXiv 2310.11513), section 3, and the rules of its evaluation code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limner.core.errors import UserError
from limner.rewards.vision.segment import Instance

CLAUSES = ("count", "colour", "position")
GAP = 0.1
"""GenEval's position threshold: the share of both sizes by which centres must be apart."""
MOST_ENTRIES = 32
"""Clauses that one picture may be asked for."""


def require_form(meta: Mapping[str, Any], text: str) -> None:
    """Raise UserError, naming the prompt by its text, for a meta that is not as `judge` reads it."""
    includes, excludes = meta.get("include", []), meta.get("exclude", [])
    where = f"geneval: prompt {text!r:.100}: meta"
    if not isinstance(includes, list) or not isinstance(excludes, list) or len(includes) + len(excludes) > MOST_ENTRIES:
        raise UserError(f"{where}: include and exclude are lists of {MOST_ENTRIES} entries at most in all")
    for place, entry in enumerate([*includes, *excludes]):
        count = entry.get("count") if isinstance(entry, Mapping) else None
        if type(count) is not int or count < 1 or not isinstance(entry.get("class"), str):
            raise UserError(f"{where}: an entry has a class and a count from 1, got {entry!r:.100}")
        if "position" in entry and not _is_position(entry["position"], place):
            got = f"{entry['position']!r:.100}"
            raise UserError(f"{where}: a position is [relation, number of an entry before it], got {got}")


def _is_position(position: Any, place: int) -> bool:
    """Tell whether it is one that the entry at `place` may have."""
    if not isinstance(position, Sequence) or len(position) != 2:
        return False
    return isinstance(position[0], str) and type(position[1]) is int and 0 <= position[1] < place


def judge(
    found: Mapping[str, Sequence[Instance]],
    meta: Mapping[str, Any],
    colour: Callable[[Instance, str], str],
    strict: bool,
) -> tuple[float, ...]:
    """Return correct (0 or 1), the share of clauses that hold, and the shares of count, colour and position clauses.

    Only the surest `count` instances are asked for colour and position; both fail where too few were found, and a
    position also where its target failed. An `exclude` entry is a count clause: fewer than its count.
    """
    held: dict[str, list[bool]] = {clause: [] for clause in CLAUSES}
    groups: list[Sequence[Instance] | None] = []
    for entry in meta["include"]:
        name, count = entry["class"], entry["count"]
        things, matched = found[name][:count], []
        enough = len(found[name]) == count if strict else len(things) == count
        matched.append(enough)
        held["count"].append(enough)
        if "color" in entry:
            matched.append(enough and all(colour(thing, name) == entry["color"] for thing in things))
            held["colour"].append(matched[-1])
        if "position" in entry:
            relation, index = entry["position"]
            target = groups[index]
            pairs = [(thing, other) for thing in things for other in target or ()]
            matched.append(all(matched) and target is not None and all(relation in relations(*pair) for pair in pairs))
            held["position"].append(matched[-1])
        groups.append(things if all(matched) else None)
    held["count"] += [len(found[entry["class"]]) < entry["count"] for entry in meta.get("exclude", [])]
    every = [one for clause in CLAUSES for one in held[clause]]
    shares = [sum(held[clause]) / len(held[clause]) if held[clause] else 1.0 for clause in CLAUSES]
    return (float(all(every)), sum(every) / len(every), *shares)


def relations(a: Instance, b: Instance) -> set[str]:
    """Return how `a` lies to `b`: "left of", "right of", "above", "below", at most one of each axis.

    The distance of centres, less a tenth of both sizes, must be more than half of the whole distance along an axis.
    """
    offsets, rest = [], []
    for low, high in ((0, 2), (1, 3)):
        offset = (a.box[low] + a.box[high] - b.box[low] - b.box[high]) / 2
        sizes = a.box[high] - a.box[low] + b.box[high] - b.box[low]
        offsets.append(offset)
        rest.append(math.copysign(max(abs(offset) - GAP * sizes, 0), offset))
    if max(map(abs, rest)) < 1e-3:
        return set()
    x, y = (value / math.hypot(*offsets) for value in rest)
    tests = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return {relation for relation, holds in tests.items() if holds}
