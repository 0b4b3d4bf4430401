"""The language of the motion world: what may happen in a clip, how it is written, and what is held out."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from limner.core.errors import UserError, nearest
from limner.core.rng import fixed_share
from limner.core.types import Prompt, Vocabulary
from limner.worlds.scenes.grammar import COLOURS, SHAPES

Split = Literal["train", "heldout"]

CATEGORIES = ("direction", "speed", "still", "gravity", "bounce", "cross", "follow", "occlusion")
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
SPEEDS = ("slowly", "quickly")
DEPTHS = ("behind", "in front of")
PAIRED = ("cross", "follow", "occlusion")
HELDOUT_SHARE = 0.15
PER_CATEGORY = {"train": 140, "heldout": 14}

_SALT = "limner motion"
_THING = rf"an? (?P<colour{{0}}>{'|'.join(COLOURS)}) (?P<shape{{0}}>{'|'.join(SHAPES)})"
_ONE, _TWO = _THING.format(1), _THING.format(2)
_WAY = rf"(?P<direction>{'|'.join(OPPOSITE)})"
_FORMS = {
    "direction": re.compile(rf"{_ONE} moves {_WAY}"),
    "speed": re.compile(rf"{_ONE} moves {_WAY} (?P<speed>{'|'.join(SPEEDS)})"),
    "still": re.compile(rf"{_ONE} stays still"),
    "gravity": re.compile(rf"{_ONE} falls"),
    "bounce": re.compile(rf"{_ONE} bounces"),
    "cross": re.compile(rf"{_ONE} and {_TWO} cross"),
    "follow": re.compile(rf"{_ONE} follows {_TWO} {_WAY}"),
    "occlusion": re.compile(rf"{_ONE} passes (?P<depth>{'|'.join(DEPTHS)}) {_TWO}"),
}
_VERBS = ("moves", "stays", "still", "falls", "bounces", "and", "cross", "follows", "passes", "behind", "in", "front")
WORDS: tuple[str, ...] = ("a", "an", "of", *_VERBS, *OPPOSITE, *SPEEDS, *COLOURS, *SHAPES)
VOCABULARY = Vocabulary(WORDS, max_length=12)
"""The longest caption has ten words; begin and end."""


@dataclass(frozen=True)
class Thing:
    """One object: it keeps its colour and its shape."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{'an' if self.colour[0] in 'aeiou' else 'a'} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Motion:
    """What a caption claims: things of different colours, and what the first does (to the second)."""

    category: str
    things: tuple[Thing, ...]
    direction: str | None = None
    speed: str | None = None
    depth: str | None = None


def caption(motion: Motion) -> str:
    """Write the motion."""
    first, second = str(motion.things[0]), str(motion.things[-1])
    match motion.category:
        case "direction":
            return f"{first} moves {motion.direction}"
        case "speed":
            return f"{first} moves {motion.direction} {motion.speed}"
        case "still":
            return f"{first} stays still"
        case "gravity":
            return f"{first} falls"
        case "bounce":
            return f"{first} bounces"
        case "cross":
            return f"{first} and {second} cross"
        case "follow":
            return f"{first} follows {second} {motion.direction}"
    return f"{first} passes {motion.depth} {second}"


def parse(text: str) -> Motion:
    """Return the motion that `text` describes; the inverse of `caption`.

    Raises UserError for text outside the grammar.
    """
    words = text.lower().strip(" .\n\t").split()
    for word in words:
        if word not in WORDS:
            raise UserError(f"motion prompt {text!r}: unknown word {word!r}{nearest(word, WORDS)}")
    for category, form in _FORMS.items():
        found = form.fullmatch(" ".join(words))
        if found is None:
            continue
        said = found.groupdict()
        things = tuple(Thing(said[f"colour{i}"], said[f"shape{i}"]) for i in (1, 2) if f"colour{i}" in said)
        if len({thing.colour for thing in things}) < len(things):
            raise UserError(f"motion prompt {text!r}: two objects of one clip must differ in colour")
        return Motion(category, things, said.get("direction"), said.get("speed"), said.get("depth"))
    raise UserError(
        f"motion prompt {text!r} is not in the grammar; write one like 'a red star moves left quickly', 'a green "
        "square stays still', 'a blue circle falls', 'a red circle follows a blue square up' or 'a red star passes "
        "behind a blue square'"
    )


def is_heldout(motion: Motion) -> bool:
    """Tell whether a motion belongs to the held-out split, whichever of two that cross is named first."""
    if motion.category == "cross":
        motion = replace(motion, things=tuple(sorted(motion.things, key=str)))
    return fixed_share(f"{_SALT}: {caption(motion)}") < HELDOUT_SHARE


def to_prompt(motion: Motion) -> Prompt:
    """Return the prompt of a motion; the checker reads its text."""
    return Prompt(caption(motion), {"category": motion.category})


def prompts(split: Split, per_category: int | None = None) -> list[Prompt]:
    """Return the fixed prompts of a split, category by category: 14 a category held out (112), 140 to train on.

    Where a category has fewer motions they repeat, so that the categories weigh the same.
    """
    limit = PER_CATEGORY[split] if per_category is None else min(PER_CATEGORY[split], per_category)
    families = [itertools.cycle(_family(category, split)) for category in CATEGORIES]
    return [to_prompt(motion) for family in families for motion in itertools.islice(family, limit)]


def sample_motion(rng: np.random.Generator, split: Split = "train") -> Motion:
    """Draw a motion of the split, categories equally likely."""
    family = _family(CATEGORIES[int(rng.integers(len(CATEGORIES)))], split)
    return family[int(rng.integers(len(family)))]


def clauses(motion: Motion) -> tuple[str, ...]:
    """Return which clauses of a motion `corrupt` can change."""
    own = {
        "direction": ("direction", "acceleration"),
        "speed": ("direction", "speed"),
        "still": ("speed",),
        "gravity": ("acceleration", "bounce"),
        "bounce": ("acceleration", "bounce"),
        "cross": ("order",),
        "follow": ("direction", "order"),
        "occlusion": ("occlusion", "order"),
    }
    return ("identity", "count", *own[motion.category])


def corrupt(motion: Motion, rng: np.random.Generator, clause: str | None = None) -> Motion:
    """Change one clause, so that the caption claims something else; None draws which of `clauses(motion)`.

    identity: one colour or one shape; count: one thing more or less; direction: the opposite; speed: the other one, or
    movement for stillness; acceleration and bounce: uniform movement, fall, or bounce instead; occlusion and order: in
    front for behind, roles exchanged, following for crossing.
    """
    options = clauses(motion)
    clause = options[int(rng.integers(len(options)))] if clause is None else clause
    first, second = motion.things[0], motion.things[-1]
    other = OPPOSITE.get(motion.direction or "")
    match clause, motion.category:
        case "identity", _:
            return _repainted(motion, rng)
        case "count", category if category in PAIRED:
            return Motion("still", (second,)) if category == "occlusion" else Motion("direction", (first,), "right")
        case "count", _:
            return Motion("cross", (first, _another(first, rng)))
        case "direction", _:
            return replace(motion, direction=other)
        case "speed", "still":
            return Motion("direction", (first,), [*OPPOSITE][int(rng.integers(4))])
        case "speed", _:
            return replace(motion, speed=SPEEDS[motion.speed == SPEEDS[0]])
        case "acceleration", "direction":
            return Motion("gravity", (first,))
        case "acceleration", _:
            return Motion("direction", (first,), "down")
        case "bounce", category:
            return Motion("bounce" if category == "gravity" else "gravity", (first,))
        case "order", "cross":
            return Motion("follow", motion.things, ["left", "right"][int(rng.integers(2))])
        case "order", _:
            return replace(motion, things=(second, first))
    return replace(motion, depth=DEPTHS[motion.depth == DEPTHS[0]])


def noisy_caption(motion: Motion, rng: np.random.Generator, share: float) -> str:
    """Return the caption, or with probability `share` one with a clause changed, never of a held-out motion."""
    if rng.random() >= share:
        return caption(motion)
    while is_heldout(changed := corrupt(motion, rng)):
        pass
    return caption(changed)


def _another(thing: Thing, rng: np.random.Generator) -> Thing:
    """Draw a thing of another colour."""
    colours = [colour for colour in COLOURS if colour != thing.colour]
    return Thing(colours[int(rng.integers(len(colours)))], SHAPES[int(rng.integers(len(SHAPES)))])


def _repainted(motion: Motion, rng: np.random.Generator) -> Motion:
    """Change the colour or the shape of one thing."""
    index = int(rng.integers(len(motion.things)))
    thing = motion.things[index]
    if rng.random() < 0.5:
        taken = {each.colour for each in motion.things}
        free = [colour for colour in COLOURS if colour not in taken]
        changed = replace(thing, colour=free[int(rng.integers(len(free)))])
    else:
        free = [shape for shape in SHAPES if shape != thing.shape]
        changed = replace(thing, shape=free[int(rng.integers(len(free)))])
    return replace(motion, things=(*motion.things[:index], changed, *motion.things[index + 1 :]))


@functools.cache
def _family(category: str, split: Split) -> Sequence[Motion]:
    """Return the motions of a category and split, in hash order."""
    things = [Thing(colour, shape) for colour in COLOURS for shape in SHAPES]
    pairs = [pair for pair in itertools.permutations(things, 2) if pair[0].colour != pair[1].colour]
    groups = pairs if category in PAIRED else [(thing,) for thing in things]
    ways = [*OPPOSITE] if category in ("direction", "speed", "follow") else [None]
    speeds = SPEEDS if category == "speed" else [None]
    depths = DEPTHS if category == "occlusion" else [None]
    motions = itertools.starmap(Motion, itertools.product([category], groups, ways, speeds, depths))
    chosen = [motion for motion in motions if is_heldout(motion) == (split == "heldout")]
    return tuple(sorted(chosen, key=lambda motion: fixed_share(f"{_SALT} order: {caption(motion)}")))
