"""Prompts of common objects: which there are, how many, in what colour, place, material, light and style.

`limner train sd35_medium` has `objects:train`, and is measured on `objects:heldout`. Objects have GenEval's names
(arXiv:2310.11513), which are COCO's classes, and the first six categories are GenEval's; sentences are ours.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

from limner.core.types import Prompt
from limner.worlds.everyday.asked import Asked, Split, chosen, draw, pick, plural, singular

KINDS = {
    "animal": ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    "road": ("bicycle", "car", "motorcycle", "bus", "truck"),
    "street": ("traffic light", "fire hydrant", "stop sign", "parking meter", "bench"),
    "travel": ("airplane", "boat", "train"),
    "food": ("banana", "apple", "sandwich", "orange", "carrot", "hot dog", "pizza", "donut", "cake"),
    "table": ("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "vase", "clock", "book"),
    "small": ("laptop", "computer mouse", "computer keyboard", "cell phone", "tv remote", "teddy bear", "toothbrush"),
    "home": ("chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "microwave", "oven", "toaster")
    + ("sink", "refrigerator"),
    "outdoor": ("backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "snowboard", "sports ball", "kite")
    + ("baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
}
OBJECTS = tuple(itertools.chain(*KINDS.values()))
COMPANY = (
    ("animal", "animal"), ("animal", "street"), ("animal", "outdoor"), ("road", "road"), ("road", "street"),
    ("food", "food"), ("food", "table"), ("table", "table"), ("table", "small"), ("small", "home"), ("home", "home"),
    ("outdoor", "outdoor"), ("outdoor", "street"),
)  # fmt: skip
"""Kinds of objects that are seen together."""
PAINTED = ("road", "table", "small", "home", "outdoor")
"""Kinds of objects that come in any colour."""
COUNTED = ("animal", "road", "food", "table", "small", "outdoor")
ALOFT = ("bird", "airplane", "kite", "frisbee")
"""What can be above anything that stands on the ground."""
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5}
RELATIONS = {"left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below"}
"""GenEval's relations, and how they are written."""
MIRRORED = {"left of": "right of", "above": "below"}
BESIDE_SHARE = 0.15
"""Share of the pairs that are asked for side by side, so that a third of positions are above and below."""
MATERIALS = ("wood", "glass", "paper", "stone", "ice", "wool", "clay", "steel", "marble", "cardboard", "chocolate")
WALL = "in front of a brick wall"
PLACES = {
    "animal": ("in a meadow", "on a beach", "in deep snow", "beside a lake", "in a pine forest", "on a hilltop"),
    "road": ("on a wet street", "under a bridge", WALL, "on a mountain road", "beside a canal"),
    "street": ("on a quiet corner", WALL, "beside a canal", "on a wet street", "under a large tree"),
    "food": ("on a wooden board", "on a windowsill", "on a picnic blanket", "on a marble counter", "on a paper plate"),
    "table": ("on a wooden shelf", "on a windowsill", "on a marble counter", "on a pile of newspapers"),
    "small": ("on a wooden desk", "on a windowsill", "on a glass shelf", "on a pile of newspapers"),
    "home": ("in an attic", "in an empty room", "in a garden", "on a stage", "in a greenhouse"),
    "outdoor": ("on a lawn", "on a wooden floor", "on a sandy beach", "on a flight of stairs", "on a stone wall"),
}
DAYLIGHT = (
    "at sunrise", "at sunset", "at night", "in thick fog", "in heavy rain", "under a stormy sky", "in bright sunlight",
    "by moonlight",
)  # fmt: skip
LAMPS = ("by candlelight", "in soft morning light", "in the light of a single lamp", "in the glow of a neon sign")
LIGHTS = {kind: LAMPS if kind in ("food", "table", "small", "home") else DAYLIGHT for kind in PLACES}
STYLES = (
    "an oil painting of", "a watercolor painting of", "a pencil drawing of", "a charcoal drawing of",
    "a pixel art picture of", "a linocut print of", "a picture book illustration of", "a black and white photo of",
    "a stained glass window that shows", "an embroidery of", "a mosaic of", "a travel poster that shows",
)  # fmt: skip
VIEWS = ("{}", "a photograph of {}", "a close-up photograph of {}")
VIEWS_OF_SEVERAL = ("{}", "a photograph of {}")


def prompts(split: Split, per_category: int | None = None) -> list[Prompt]:
    """Return the fixed prompts of a split, category by category: 12 a category held out (120), 40 to train on (400).

    A combination (of objects, numbers, colours, ...) that is held out in a category is not trained on in it, however
    it is worded. `meta` has `category`; `include` and `tag`, which `geneval_hf` reads: the objects that must be there,
    not their material, place, light or style; and `atoms`, questions of all that is asked, for
    `vlm_checklist(preset='soft_tifa_am')`.
    """
    return chosen(everything(), split, per_category)


@functools.cache
def everything() -> tuple[Asked, ...]:
    """Return whatever can be asked for, a prompt a combination."""
    return tuple(_everything())


def _everything() -> Iterator[Asked]:
    yield from _singles()
    yield from _pairs()
    yield from _counts()
    yield from _colours()
    yield from _positions()
    yield from _coloured_pairs()
    for kind, places in PLACES.items():
        for name, place in itertools.product(KINDS[kind], places):
            yield _shown("scenes", name, f"{{}} {place}", place, [f"Is the {word(name)} {place}?"])
    for name, material in itertools.product(OBJECTS, MATERIALS):
        yield _shown(
            "materials", name, f"{{}} made of {material}", material, [f"Is the {word(name)} made of {material}?"]
        )
    for kind, lights in LIGHTS.items():
        for name, light in itertools.product(KINDS[kind], lights):
            place = pick("place", f"{name} {light}", PLACES[kind])
            questions = [f"Is the {word(name)} {place}?", f"Is the {word(name)} shown {light}?"]
            yield _shown("lighting", name, f"{{}} {place} {light}", light, questions)
    for kind, places in PLACES.items():
        for name, style in itertools.product(KINDS[kind], STYLES):
            place = pick("place", f"{name} {style}", places)
            looks = style.removesuffix(" of").removesuffix(" that shows")
            questions = [f"Is the {word(name)} {place}?", f"Does this look like {looks}?"]
            yield _shown("styles", name, f"{style} {{}} {place}", style, questions)


def word(name: str) -> str:
    """Return how an object's name is written in a sentence."""
    return "TV" + name.removeprefix("tv") if name.split()[0] == "tv" else name


def _one(name: str, colour: str = "") -> str:
    """Write one object, with its article."""
    return singular(f"{colour} {word(name)}" if colour else word(name))


def _thing(name: str, count: int = 1, color: str = "", position: tuple[str, int] | None = None) -> dict[str, Any]:
    """Return an entry of GenEval's `include`; `position` is a relation, and the entry that it is to."""
    told = {"color": color} if color else {}
    return {"class": name, "count": count, **told, **({"position": list(position)} if position else {})}


def _there(*names: str) -> list[str]:
    """Return the questions whether objects are there."""
    return [f"Is there {_one(name)}?" for name in names]


def _asked(category: str, combination: str, text: str, include: list[dict[str, Any]], atoms: list[str]) -> Asked:
    return Asked(category, combination, text, {"tag": category, "include": include, "atoms": atoms})


def _shown(category: str, name: str, text: str, what: str, questions: list[str]) -> Asked:
    """Return one object in a setting, which the questions ask for."""
    combination = f"{name}, {what}"
    return _asked(category, combination, text.format(_one(name)), [_thing(name)], [*_there(name), *questions])


def _singles() -> Iterator[Asked]:
    for name in OBJECTS:
        text = pick("view", name, VIEWS).format(_one(name))
        yield _asked("single_object", name, text, [_thing(name)], _there(name))


def _pairs() -> Iterator[Asked]:
    for names in _company():
        one, other = names if draw("order", " ".join(names)) < 0.5 else names[::-1]
        combination = " and ".join(sorted(names))
        text = pick("view", combination, VIEWS_OF_SEVERAL).format(f"{_one(one)} and {_one(other)}")
        yield _asked("two_object", combination, text, [_thing(one), _thing(other)], _there(one, other))


def _counts() -> Iterator[Asked]:
    for kind, number in itertools.product(COUNTED, NUMBERS):
        for name in KINDS[kind]:
            several = f"{number} {plural(word(name))}"
            text = pick("view", several, VIEWS_OF_SEVERAL).format(several)
            atoms = [f"Are there {plural(word(name))}?", f"Are there exactly {several}?"]
            yield _asked("counting", several, text, [_thing(name, NUMBERS[number])], atoms)


def _colours() -> Iterator[Asked]:
    for kind, colour in itertools.product(PAINTED, COLOURS):
        for name in KINDS[kind]:
            combination = f"{colour} {name}"
            text = pick("view", combination, VIEWS_OF_SEVERAL).format(_one(name, colour))
            atoms = [*_there(name), f"Is the {word(name)} {colour}?"]
            yield _asked("colors", combination, text, [_thing(name, color=colour)], atoms)


def _positions() -> Iterator[Asked]:
    ground = [name for kind in ("animal", "road", "street") for name in KINDS[kind] if name not in ALOFT]
    pairs = [names for pair in _company() for names in (pair, pair[::-1])]
    beside = [(*names, "left of") for names in pairs if draw("beside", " ".join(names)) < BESIDE_SHARE]
    for one, other, relation in [*beside, *((*names, "above") for names in itertools.product(ALOFT, ground))]:
        combination = f"{one} {relation} {other}"
        if draw("mirror", combination) < 0.5:
            one, other, relation = other, one, MIRRORED[relation]
        text = f"{_one(one)} {RELATIONS[relation]} {_one(other)}"
        text = pick("view", combination, VIEWS_OF_SEVERAL).format(text)
        include = [_thing(other), _thing(one, position=(relation, 0))]
        where = f"Is the {word(one)} {RELATIONS[relation]} the {word(other)}?"
        yield _asked("position", combination, text, include, [*_there(one, other), where])


def _coloured_pairs() -> Iterator[Asked]:
    """Yield for each pair that comes in any colour some pairs of colours, so that no object outweighs another."""
    painted = {name for kind in PAINTED for name in KINDS[kind]}
    for names in _company():
        if not painted.issuperset(names):
            continue
        seen = set[str]()
        for turn in range(3):
            first = pick(f"first colour {turn}", " ".join(names), COLOURS)
            rest = tuple(colour for colour in COLOURS if colour != first)
            told = list(zip(names, (first, pick(f"second colour {turn}", " ".join(names), rest)), strict=True))
            told = told if draw(f"order {turn}", " ".join(names)) < 0.5 else told[::-1]
            combination = " and ".join(sorted(f"{colour} {name}" for name, colour in told))
            if combination in seen:
                continue
            seen.add(combination)
            text = " and ".join(_one(name, colour) for name, colour in told)
            text = pick("view", combination, VIEWS_OF_SEVERAL).format(text)
            atoms = [*_there(*names), *(f"Is the {word(name)} {colour}?" for name, colour in told)]
            include = [_thing(name, color=colour) for name, colour in told]
            yield _asked("color_attr", combination, text, include, atoms)


def _company() -> Iterator[tuple[str, str]]:
    """Yield the pairs of different objects that are seen together, each once."""
    for one, other in COMPANY:
        pairs = itertools.combinations(KINDS[one], 2)
        yield from pairs if one == other else itertools.product(KINDS[one], KINDS[other])
