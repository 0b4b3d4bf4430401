"""What may stand around one judge: a reducer of what it says of frames, or the place where it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from limner.cluster.place import Place
from limner.core.errors import UserError, nearest
from limner.rewards.algebra.frames import REDUCERS
from limner.rewards.algebra.tree import ON_RAY, Expression, Leaf, Setting

AROUND = (*REDUCERS, ON_RAY)
"""What is written around a judge."""


def around(name: str, inside: Sequence[Expression | float], settings: Mapping[str, Setting], text: str) -> Leaf:
    """Return the judge that stands `inside`, reduced or placed as `name` says. Raises UserError for anything else.

    `text` is the expression, for errors.
    """
    judge = inside[0] if len(inside) == 1 else None
    if not isinstance(judge, Leaf) or judge.over or (name == ON_RAY and judge.place):
        what = "and settings by name" if name == ON_RAY else "asked about each frame"
        raise UserError(f"reward {text!r}: {name}(...) takes one judge, {what}")
    if name == ON_RAY:
        return replace(judge, place=_place(settings, text))
    reducer = REDUCERS[name]
    for key, value in settings.items():
        if key != reducer.setting or type(value) not in (int, float):
            known = f"one setting, {reducer.setting}, a number" if reducer.setting else "no setting"
            raise UserError(f"reward {text!r}: {reducer.name} has {known}, got {key}={value!r}")
        reducer = replace(reducer, value=float(value))
    return replace(judge, over=reducer)


def _place(settings: Mapping[str, Setting], text: str) -> Place:
    known = [field.name for field in fields(Place)]
    for key in settings:
        if key not in known:
            raise UserError(f"reward {text!r}: {ON_RAY} has no setting {key!r}{nearest(key, known)}")
    try:
        place = Place(**settings)  # type: ignore[arg-type]
    except UserError as error:
        raise UserError(f"reward {text!r}: {ON_RAY}: {error}") from None
    if not place.workers:
        raise UserError(f"reward {text!r}: {ON_RAY} needs one worker at least")
    return place
