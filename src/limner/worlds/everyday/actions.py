"""Prompts for clips: things that move, and written words that do.

`actions:train` suits judges of motion; `limner train wan_1_3b`, whose judge reads, has `signs:train`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

from limner.core.types import Prompt
from limner.worlds.everyday.asked import PER_CATEGORY, Asked, Split, chosen, pick, plural, singular
from limner.worlds.words.grammar import words

ANIMALS = ("dog", "horse", "fox", "deer", "goat", "rabbit", "elephant", "lion", "wolf", "zebra")
GAITS = ("runs", "walks", "jumps")
GROUNDS = ("along a beach", "through tall grass", "across a snowy field", "down a forest path", "over a fallen tree")
DRIVEN = ("car", "bus", "tram", "truck", "van", "tractor")
PAINTS = ("red", "yellow", "green", "blue", "orange", "white", "black")
WAYS = ("from left to right", "from right to left", "towards the camera", "away from the camera")
CAMERA = (
    "circles", "zooms in on", "zooms out from", "moves slowly towards", "pulls back from", "pans across", "rises above",
)  # fmt: skip
SIGHTS = (
    "a lighthouse", "a castle on a hill", "a bowl of fruit", "a statue in a park", "a sailing ship",
    "an old tree in a field", "a wooden cabin in the snow", "a motorcycle", "a busy market", "a row of books",
    "a stone bridge", "a piano on an empty stage",
)  # fmt: skip
SUDDEN = (
    "a wave breaks on rocks", "a balloon bursts", "milk is poured into a glass", "a leaf falls to the ground",
    "a wet dog shakes itself", "rain runs down a window", "an egg cracks open", "a kite rises into the sky",
    "autumn leaves swirl in the wind", "a waterfall plunges into a pool", "fireworks light up a harbor",
    "a tower of blocks collapses", "a flag flutters in the wind", "fish swim through a coral reef",
)  # fmt: skip
GRADUAL = (
    "a flower opens", "clouds drift over a mountain", "a candle burns down", "ice melts in a glass",
    "paint drips down a wall", "snow falls on a village", "the sun sets behind a hill", "a shadow moves across a wall",
    "smoke rises from a chimney", "a loaf of bread rises in an oven", "traffic flows through a city",
    "a snail crosses a path",
)  # fmt: skip
TEMPI = ("in real time", "in a single shot")
CHASERS = ("a dog", "a cat", "a fox", "a goat", "a puppy", "a lamb")
CHASES = ("chases", "follows", "runs around", "jumps over")
CHASED = ("a ball", "a butterfly", "a duck", "a hen", "a toy car", "a rolling hoop")
FLOCKS = {
    "bird": ("fly over a lake", "land on a wire", "circle above a tower"),
    "boat": ("sail across a bay", "rock in a harbor", "pass under a bridge"),
    "duck": ("swim across a pond", "waddle down a road", "dive under water"),
    "child": ("run across a meadow", "jump into a pool", "dance in the rain"),
    "horse": ("gallop along a beach", "cross a river", "graze in a valley"),
    "balloon": ("float above a city", "rise from a field", "drift over the sea"),
    "cyclist": ("ride down a hill", "pass through a tunnel", "turn around a corner"),
    "candle": ("flicker in the dark", "float on a river", "go out one by one"),
}
NUMBERS = ("two", "three", "four")
PEOPLE = ("woman", "man", "child", "old man", "old woman", "boy", "girl")
DOINGS = (
    "rides a bicycle along a canal", "opens an umbrella in the rain", "pours tea into a cup", "juggles three balls",
    "plays the violin", "walks up a flight of stairs", "skips rope in a yard", "paints a fence",
    "throws a ball to a dog", "blows out a candle", "turns the pages of a book", "kicks a ball against a wall",
)  # fmt: skip
BODIES = ("ball", "apple", "coin", "marble", "barrel", "tire", "wooden block", "orange", "glass bottle", "bucket")
FALLS = (
    "rolls down a slope", "falls into a pool of water", "bounces on a stone floor", "slides across ice",
    "swings on a rope", "spins on a table", "tumbles down a flight of stairs", "drops onto sand",
)  # fmt: skip
SIGNS = (
    'a banner that says "{}" flutters in the wind',
    'a neon sign that reads "{}" flickers in a dark street',
    'a truck with the word "{}" on its side drives past',
    'a hand writes the word "{}" on a blackboard',
    'the camera moves slowly towards a shop sign that says "{}"',
    'waves roll past a wooden board that reads "{}"',
)
NUM_CATEGORIES = 8


def prompts(split: Split, per_category: int | None = None) -> list[Prompt]:
    """Return the fixed prompts of a split, category by category: 12 a category held out (96), 40 to train on (320).

    A combination that is held out is not trained on. `meta` has the `category`.
    """
    return chosen(everything(), split, per_category)


def signs(split: Split, count: int | None = None) -> list[Prompt]:
    """Return the first `count` prompts whose words move: of the words world, every word once before any comes again.

    None means as many as `prompts` has: 96 held out, 320 to train on; at most that. No word that is held out is trained
    on. `meta` has `text`, which the judge `ocr` reads.
    """
    most = NUM_CATEGORIES * PER_CATEGORY[split]
    rounds = itertools.product(range(len(SIGNS)), enumerate(words(split)))
    asked = (
        Prompt(SIGNS[(place + turn) % len(SIGNS)].format(word), {"text": word, "category": f"{len(word)} letters"})
        for turn, (place, word) in rounds
    )
    return [*itertools.islice(asked, most if count is None else min(most, count))]


@functools.cache
def everything() -> tuple[Asked, ...]:
    """Return whatever can be asked for, a prompt a combination."""
    return tuple(_everything())


def _everything() -> Iterator[Asked]:
    for animal, gait, ground in itertools.product(ANIMALS, GAITS, GROUNDS):
        if (gait == "jumps") == ground.startswith("over"):
            yield _asked("motion", f"{singular(animal)} {gait} {ground}")
    for driven, paint, way in itertools.product(DRIVEN, PAINTS, WAYS):
        yield _asked("direction", f"{singular(f'{paint} {driven}')} drives {way}")
    for events, own in ((SUDDEN, "in slow motion"), (GRADUAL, "in time lapse")):
        for event, tempo in itertools.product(events, (own, *TEMPI)):
            yield _asked("tempo", f"{event} {tempo}")
    for move, sight in itertools.product(CAMERA, SIGHTS):
        yield _asked("camera", f"the camera {move} {sight}")
    for one, does, other in itertools.product(CHASERS, CHASES, CHASED):
        yield _asked("interaction", f"{one} {does} {other}")
    for one, ways in FLOCKS.items():
        for number, doing in itertools.product(NUMBERS, ways):
            yield _asked("counting", f"{number} {plural(one)} {doing}")
    for one, doing in itertools.product(PEOPLE, DOINGS):
        yield _asked("people", f"{singular(one)} {doing}")
    for body, falls in itertools.product(BODIES, FALLS):
        yield _asked("physics", f"{singular(body)} {falls}")


def _asked(category: str, what: str) -> Asked:
    """Return a prompt, some of which say that they are of a clip."""
    return Asked(category, what, pick("view", what, ("{}", "{}", "a clip in which {}")).format(what))
