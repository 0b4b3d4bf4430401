"""The language of the scenes world: what a scene is, how it is written, and which scenes are held out.

Four categories with GenEval's names (Ghosh et al., arXiv 2310.11513). GenEval's `single_object` and
`two_object` are contained in `colors` and `color_attr`: an uncoloured noun leaves nothing to hold out.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from limner.core.errors import UserError, nearest
from limner.core.types import Prompt

Split = Literal["train", "heldout"]

CATEGORIES = ("colors", "counting", "position", "color_attr")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
SHAPES = ("circle", "square", "triangle", "star")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
MIRRORED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
NUM_PHRASINGS = 4
HELDOUT_PER_CATEGORY = 28
TRAIN_PER_CATEGORY = 280
MOST_ITEMS = 3
"""Different objects of a scene, at most."""
TRIPLE_SHARE = 0.25
"""Share of three-object scenes among color_attr."""
DROPPED_SHARE = 0.2
"""Share of noisy captions that lack a clause; the others state a wrong one."""

_WORDS = ("a", "an", "single", "that", "is", "and", ",", "left", "right", "of", "above", "below")
VOCABULARY: tuple[str, ...] = (*_WORDS, *NUMBERS, *COLOURS, *SHAPES, *(f"{shape}s" for shape in SHAPES))
"""Every word a caption can contain; the comma is a word."""

_SALT = "limner scenes 1997"
"""Of 0, 1, 2, ... the first that spreads the held-out colors and counting scenes over attributes and numbers."""
_ITEM = re.compile(
    rf"(?:(?P<count>a|an|{'|'.join(NUMBERS)}) )?(?P<single>single )?(?:(?P<colour>{'|'.join(COLOURS)}) )?"
    rf"(?P<shape>{'|'.join(SHAPES)})(?P<plural>s)?(?: that is (?P<late>{'|'.join(COLOURS)}))?"
)


@dataclass(frozen=True)
class Item:
    """`count` equal objects. None means the caption does not say; `render` then chooses."""

    count: int | None
    colour: str | None
    shape: str


@dataclass(frozen=True)
class Scene:
    """What a caption claims: items, and for `position` how the first stands to the second."""

    category: str
    items: tuple[Item, ...]
    relation: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the scene as JSON-able data."""
        items = [{"count": item.count, "colour": item.colour, "shape": item.shape} for item in self.items]
        return {"category": self.category, "items": items, "relation": self.relation}

    @classmethod
    def from_dict(cls, data: Any) -> Scene:
        """Return the scene that `to_dict` wrote. Raises UserError for anything else, and for one outside the grammar.

        The number of equal objects may be any: more than a picture can show are never seen.
        """
        if not isinstance(data, Mapping) or data.keys() != {"category", "items", "relation"}:
            raise UserError(f"a scene is {{category, items, relation}}, got {data!r:.100}")
        entries, relation = data["items"], data["relation"]
        if not isinstance(entries, Sequence) or not 1 <= len(entries) <= MOST_ITEMS:
            raise UserError(f"a scene has a list of 1 to {MOST_ITEMS} items, got {entries!r:.100}")
        items = tuple(_item(entry) for entry in entries)
        if len(items) > 1 and any(item.count != 1 for item in items):
            raise UserError(f"a scene of several items has one of each, got {data!r:.200}")
        if relation is not None and (relation not in RELATIONS or len(items) != 2):
            raise UserError(
                f"a relation is between two items, and one of {', '.join(RELATIONS)}, got {relation!r:.100}"
            )
        if data["category"] not in CATEGORIES:
            raise UserError(f"a scene's category is one of {', '.join(CATEGORIES)}, got {data['category']!r:.100}")
        return cls(data["category"], items, relation)


def _item(entry: Any) -> Item:
    """Return the item that a mapping means. Raises UserError."""
    if not isinstance(entry, Mapping) or entry.keys() != {"count", "colour", "shape"}:
        raise UserError(f"an item of a scene is {{count, colour, shape}}, got {entry!r:.100}")
    count, colour, shape = entry["count"], entry["colour"], entry["shape"]
    if count is not None and (type(count) is not int or count < 1):
        raise UserError(f"an item's count is a whole number from 1, or null, got {count!r:.100}")
    if (colour is not None and colour not in COLOURS) or shape not in SHAPES:
        known = f"{', '.join(COLOURS)}; {', '.join(SHAPES)}"
        raise UserError(
            f"an item has a colour (or null) and a shape of these: {known}, got {colour!r:.50} {shape!r:.50}"
        )
    return Item(count, colour, shape)


def caption(scene: Scene, phrasing: int = 0) -> str:
    """Write the scene; `phrasing` 0 to 3 varies `colors` only, 0 is canonical."""
    if scene.relation is not None:
        first, second = (_noun(item, 0) for item in scene.items)
        return f"{first} {scene.relation} {second}"
    nouns = [_noun(item, phrasing if scene.category == "colors" else 0) for item in scene.items]
    return nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}"


def parse(text: str) -> Scene:
    """Return the scene that `text` describes; the inverse of `caption` in every phrasing.

    Raises UserError for text outside the grammar.
    """
    words = text.lower().replace(",", " , ").strip(" .\n\t").split()
    for word in words:
        if word not in VOCABULARY:
            raise UserError(f"scenes prompt {text!r}: unknown word {word!r}{nearest(word, VOCABULARY)}")
    plain = " ".join(words)
    relation = next((r for r in RELATIONS if f" {r} " in plain), None)
    parts = plain.split(f" {relation} ") if relation else re.split(r" , | and ", plain)
    items = tuple(_parse_item(part, text) for part in parts)
    late = " that is " in plain
    if len(items) == 1:
        return Scene("colors" if items[0].count == 1 else "counting", items)
    if len(items) > (2 if relation else MOST_ITEMS) or late or " single " in plain or any(i.count != 1 for i in items):
        raise _ungrammatical(text)
    if len(set(items)) < len(items):
        raise UserError(f"scenes prompt {text!r}: objects of one scene must differ in colour or shape")
    return Scene("position" if relation else "color_attr", items, relation)


def combination(scene: Scene) -> str:
    """Return the name of the attribute-relation combination, equal for all ways to say the same thing."""
    items, relation = scene.items, scene.relation
    if relation in ("right of", "below"):
        items, relation = (items[1], items[0]), MIRRORED[relation]
    names = [f"{item.count} {item.colour} {item.shape}" for item in items]
    return f" {relation} ".join(names) if relation else " and ".join(sorted(names))


def is_heldout(scene: Scene) -> bool:
    """Tell whether the scene's combination belongs to the held-out split, whatever its phrasing or order."""
    return combination(scene) in _heldout_names()


def to_prompt(scene: Scene, phrasing: int = 0) -> Prompt:
    """Return the prompt of a scene, with what the checker needs in `meta`."""
    return Prompt(text=caption(scene, phrasing), meta={"category": scene.category, "scene": scene.to_dict()})


def prompts(split: Split, per_category: int | None = None) -> list[Prompt]:
    """Return the fixed prompts of a split, category by category.

    `heldout` has 28 a category (112), `train` 280. The 68 `colors` and 44 `counting` prompts of `train` repeat, so
    that the categories weigh the same. `per_category` takes the first so many of each, which are spread over the
    category; a quarter of the color_attr prompts name three objects.
    """
    chosen: list[Prompt] = []
    for category in CATEGORIES:
        limit = HELDOUT_PER_CATEGORY if split == "heldout" else TRAIN_PER_CATEGORY
        limit = limit if per_category is None else min(limit, per_category)
        if category == "colors":
            chosen += itertools.islice(itertools.cycle(_colour_prompts(split)), limit)
        elif category == "color_attr":
            triples = round(limit * TRIPLE_SHARE)
            chosen += [to_prompt(_reorder(s)) for s in _family("pair", split)[: limit - triples]]
            chosen += [to_prompt(_reorder(s)) for s in _family("triple", split)[:triples]]
        else:
            family = itertools.cycle(_family(category, split))
            chosen += [to_prompt(_reorder(s)) for s in itertools.islice(family, limit)]
    return chosen


def sample_scene(rng: np.random.Generator, split: Split = "train") -> Scene:
    """Draw a scene of the split, categories equally likely and a quarter of color_attr with three objects."""
    category = CATEGORIES[int(rng.integers(4))]
    if category == "color_attr":
        scenes = _family("triple" if rng.random() < TRIPLE_SHARE else "pair", split)
        scene = scenes[int(rng.integers(len(scenes)))]
        order = rng.permutation(len(scene.items))
        return replace(scene, items=tuple(scene.items[int(i)] for i in order))
    scenes = _family(category, split)
    scene = scenes[int(rng.integers(len(scenes)))]
    return _mirror(scene) if category == "position" and rng.random() < 0.5 else scene


def sample_prompt(rng: np.random.Generator, split: Split = "train") -> Prompt:
    """Draw a prompt of the split: `sample_scene`, any phrasing."""
    return to_prompt(sample_scene(rng, split), int(rng.integers(NUM_PHRASINGS)))


def corrupt(scene: Scene, rng: np.random.Generator, clause: str | None = None) -> Scene:
    """Change exactly one clause: a count by one, one colour, one shape, or the relation mirrored.

    `clause` in `clauses(scene)` fixes which; None draws one. In color_attr the count is the number of objects.
    """
    options = clauses(scene)
    clause = options[int(rng.integers(len(options)))] if clause is None else clause
    if clause == "relation":
        return replace(scene, relation=MIRRORED[scene.relation or ""])
    if clause == "count":
        return _corrupt_count(scene, rng)
    while True:
        index = int(rng.integers(len(scene.items)))
        item = scene.items[index]
        if clause == "colour":
            changed = replace(item, colour=COLOURS[int(rng.integers(len(COLOURS)))])
        else:
            changed = replace(item, shape=SHAPES[int(rng.integers(len(SHAPES)))])
        items = (*scene.items[:index], changed, *scene.items[index + 1 :])
        if changed != item and len(set(items)) == len(items):
            return replace(scene, items=items)


def clauses(scene: Scene) -> tuple[str, ...]:
    """Return which clauses of a full scene `corrupt` can change."""
    return ("colour", "shape", "relation") if scene.relation else ("colour", "shape", "count")


def exchanged(scene: Scene) -> list[Scene]:
    """Return the scenes that say something else in the same words: two colours, or two related things, exchanged."""
    found = [replace(scene, items=scene.items[::-1])] if scene.relation else []
    for i, j in itertools.combinations(range(len(scene.items)), 2):
        one, other = scene.items[i], scene.items[j]
        if one.colour != other.colour and one.shape != other.shape:
            items = [*scene.items]
            items[i], items[j] = replace(one, colour=other.colour), replace(other, colour=one.colour)
            found.append(replace(scene, items=tuple(items)))
    return [each for each in found if len({*each.items}) == len(each.items)]


def drop(scene: Scene, rng: np.random.Generator) -> Scene:
    """Leave one clause out: a colour, the number of several equal objects, or the relation."""
    if scene.relation is not None and rng.random() < 0.5:
        return Scene("color_attr", scene.items)
    if scene.category == "counting" and rng.random() < 0.5:
        return replace(scene, items=(replace(scene.items[0], count=None),))
    while True:
        index = int(rng.integers(len(scene.items)))
        changed = replace(scene.items[index], colour=None)
        return replace(scene, items=(*scene.items[:index], changed, *scene.items[index + 1 :]))


def noisy_caption(scene: Scene, rng: np.random.Generator, share: float) -> str:
    """Write the scene in any phrasing, with probability `share` wrongly (4/5 of these) or incompletely (1/5).

    A noisy caption is never that of a held-out combination.
    """
    phrasing = int(rng.integers(NUM_PHRASINGS))
    if rng.random() >= share:
        return caption(scene, phrasing)
    change = drop if rng.random() < DROPPED_SHARE else corrupt
    while True:
        changed = change(scene, rng)
        if not is_heldout(changed):
            return caption(changed, phrasing)
        if change is drop:
            change = corrupt


def _noun(item: Item, phrasing: int) -> str:
    """Write one item; phrasings: a red star, one red star, a single red star, a star that is red."""
    if item.count != 1:
        number = "" if item.count is None else [*NUMBERS][item.count - 1] + " "
        return f"{number}{item.colour + ' ' if item.colour else ''}{item.shape}s"
    early = f"{item.colour} " if item.colour and phrasing != 3 else ""
    late = f" that is {item.colour}" if item.colour and phrasing == 3 else ""
    article = ("an" if early.startswith("o") else "a", "one", "a single", "a")[phrasing]
    return f"{article} {early}{item.shape}{late}"


def _parse_item(part: str, text: str) -> Item:
    """Read one noun phrase of `text`."""
    match = _ITEM.fullmatch(part)
    if match is None:
        raise _ungrammatical(text)
    word, plural = match["count"], match["plural"] is not None
    count = 1 if word in ("a", "an") else None if word is None else NUMBERS[word]
    if plural == (count == 1) or (match["single"] and word != "a") or (match["late"] and (match["colour"] or plural)):
        raise _ungrammatical(text)
    return Item(count, match["colour"] or match["late"], match["shape"])


def _ungrammatical(text: str) -> UserError:
    """Return the error for text outside the grammar."""
    return UserError(
        f"scenes prompt {text!r} is not in the grammar; write one like 'a red star', 'three green triangles', "
        "'a red circle left of a blue square' or 'a red circle, a blue square and a green star'"
    )


def _mirror(scene: Scene) -> Scene:
    """Say the same relation from the other side."""
    return replace(scene, items=scene.items[::-1], relation=MIRRORED[scene.relation or ""])


def _corrupt_count(scene: Scene, rng: np.random.Generator) -> Scene:
    """Change the number of objects by one, within the grammar."""
    if scene.category == "color_attr":
        if len(scene.items) == 3:
            gone = int(rng.integers(3))
            return replace(scene, items=scene.items[:gone] + scene.items[gone + 1 :])
        while True:
            extra = Item(1, COLOURS[int(rng.integers(6))], SHAPES[int(rng.integers(4))])
            if extra not in scene.items:
                return replace(scene, items=(*scene.items, extra))
    item = scene.items[0]
    count = item.count or 1
    near = [c for c in (count - 1, count + 1) if 1 <= c <= 4]
    new = near[int(rng.integers(len(near)))]
    return Scene("colors" if new == 1 else "counting", (replace(item, count=new),))


def _rank(name: str) -> bytes:
    """Return the fixed pseudo-random rank of a name."""
    return hashlib.sha256(f"{_SALT}:{name}".encode()).digest()


def _reorder(scene: Scene) -> Scene:
    """Choose by hash one of the ways to order the scene's items."""
    draw = _rank(f"order {combination(scene)}")
    if scene.relation is not None:
        return _mirror(scene) if draw[0] % 2 else scene
    orders = [*itertools.permutations(scene.items)]
    return replace(scene, items=orders[draw[0] % len(orders)])


@functools.cache
def _family(name: str, split: Split) -> Sequence[Scene]:
    """Return one scene per combination of a family and split, in hash order."""
    singles = [Item(1, colour, shape) for colour in COLOURS for shape in SHAPES]
    if name == "colors":
        scenes = [Scene(name, (item,)) for item in singles]
        heldout = HELDOUT_PER_CATEGORY // NUM_PHRASINGS
    elif name == "counting":
        scenes = [Scene(name, (replace(item, count=count),)) for item in singles for count in (2, 3, 4)]
        heldout = HELDOUT_PER_CATEGORY
    elif name == "position":
        pairs = itertools.permutations(singles, 2)
        scenes = [Scene(name, pair, relation) for pair in pairs for relation in ("left of", "above")]
        heldout = len(scenes) // 10
    else:
        groups = itertools.combinations(singles, 2 if name == "pair" else 3)
        scenes = [Scene("color_attr", group) for group in groups]
        heldout = len(scenes) // 10
    scenes.sort(key=lambda scene: _rank(combination(scene)))
    return tuple(scenes[:heldout] if split == "heldout" else scenes[heldout:])


@functools.cache
def _heldout_names() -> frozenset[str]:
    """Return the names of all held-out combinations."""
    families = ("colors", "counting", "position", "pair", "triple")
    return frozenset(combination(scene) for family in families for scene in _family(family, "heldout"))


def _colour_prompts(split: Split) -> list[Prompt]:
    """Return every phrasing of every combination; a prefix holds as many combinations as it can."""
    scenes = _family("colors", split)
    return [to_prompt(scene, (i + shift) % NUM_PHRASINGS) for shift in range(4) for i, scene in enumerate(scenes)]
