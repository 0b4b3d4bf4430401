"""The scenes language: what is written can be read, and held-out combinations never leak."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter

import numpy as np
import pytest

from limner.core.errors import UserError
from limner.worlds.scenes.grammar import (
    CATEGORIES,
    COLOURS,
    MIRRORED,
    NUM_PHRASINGS,
    RELATIONS,
    SHAPES,
    VOCABULARY,
    Item,
    Scene,
    caption,
    clauses,
    combination,
    corrupt,
    drop,
    exchanged,
    is_heldout,
    noisy_caption,
    parse,
    prompts,
    sample_prompt,
    sample_scene,
)
from limner.worlds.scenes.reward import Scenes

RED_STAR, BLUE_SQUARE, GREEN_STAR = Item(1, "red", "star"), Item(1, "blue", "square"), Item(1, "green", "star")


def every_scene() -> list[Scene]:
    """Return every scene with one kind of object or a relation, every pair, and some triples."""
    singles = [Item(1, colour, shape) for colour in COLOURS for shape in SHAPES]
    scenes = [Scene("colors", (item,)) for item in singles]
    scenes += [Scene("counting", (Item(n, i.colour, i.shape),)) for i in singles for n in (2, 3, 4)]
    pairs = [*itertools.permutations(singles, 2)]
    scenes += [Scene("position", pair, relation) for pair in pairs for relation in RELATIONS]
    scenes += [Scene("color_attr", pair) for pair in pairs]
    scenes += [Scene("color_attr", triple) for triple in [*itertools.permutations(singles, 3)][::7]]
    return scenes


@pytest.mark.parametrize(
    ("text", "scene"),
    [
        ("a red star", Scene("colors", (RED_STAR,))),
        ("an orange circle", Scene("colors", (Item(1, "orange", "circle"),))),
        ("four green triangles", Scene("counting", (Item(4, "green", "triangle"),))),
        ("a red star left of a blue square", Scene("position", (RED_STAR, BLUE_SQUARE), "left of")),
        ("a red star and a blue square", Scene("color_attr", (RED_STAR, BLUE_SQUARE))),
        ("a red star, a blue square and a green star", Scene("color_attr", (RED_STAR, BLUE_SQUARE, GREEN_STAR))),
        ("a star left of a blue square", Scene("position", (Item(1, None, "star"), BLUE_SQUARE), "left of")),
        ("red stars", Scene("counting", (Item(None, "red", "star"),))),
        ("two stars", Scene("counting", (Item(2, None, "star"),))),
        ("a star", Scene("colors", (Item(1, None, "star"),))),
    ],
)
def test_caption_and_parse_agree(text: str, scene: Scene) -> None:
    assert caption(scene) == text
    assert parse(text) == scene


def test_colors_has_four_phrasings() -> None:
    scene = Scene("colors", (RED_STAR,))
    texts = [caption(scene, phrasing) for phrasing in range(NUM_PHRASINGS)]
    assert texts == ["a red star", "one red star", "a single red star", "a star that is red"]


def test_every_scene_round_trips() -> None:
    words = set()
    for scene in every_scene():
        for phrasing in range(NUM_PHRASINGS if scene.category == "colors" else 1):
            text = caption(scene, phrasing)
            assert parse(text) == scene
            words |= set(text.replace(",", " ,").split())
        assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene
    assert words == set(VOCABULARY)


def test_incomplete_scenes_round_trip() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        scene = drop(sample_scene(rng), rng)
        assert all(parse(caption(scene, phrasing)) == scene for phrasing in range(NUM_PHRASINGS))


def test_a_typed_prompt_is_forgiven_its_case_and_full_stop() -> None:
    assert parse(" A red star Left of a  blue square. ") == parse("a red star left of a blue square")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a red hexagon", "unknown word 'hexagon'"),
        ("a gren star", "did you mean 'green'"),
        ("", "not in the grammar"),
        ("red star", "not in the grammar"),
        ("two red star", "not in the grammar"),
        ("a red stars", "not in the grammar"),
        ("one single red star", "not in the grammar"),
        ("two red stars left of a blue square", "not in the grammar"),
        ("a red star left of a blue square above a green star", "not in the grammar"),
        ("a red star, a blue square, a green star and a red square", "not in the grammar"),
        ("a red star that is red", "not in the grammar"),
        ("a red star and a red star", "must differ"),
    ],
)
def test_other_text_is_refused(text: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        parse(text)


def test_one_combination_whatever_the_order() -> None:
    assert combination(Scene("position", (RED_STAR, BLUE_SQUARE), "right of")) == combination(
        Scene("position", (BLUE_SQUARE, RED_STAR), "left of")
    )
    assert combination(Scene("position", (RED_STAR, BLUE_SQUARE), "left of")) != combination(
        Scene("position", (BLUE_SQUARE, RED_STAR), "left of")
    )
    orders = itertools.permutations((RED_STAR, BLUE_SQUARE, GREEN_STAR))
    assert len({combination(Scene("color_attr", order)) for order in orders}) == 1


def test_split_sizes_and_balance() -> None:
    heldout, train = prompts("heldout"), prompts("train")
    assert Counter(p.meta["category"] for p in heldout) == dict.fromkeys(CATEGORIES, 28)
    assert Counter(p.meta["category"] for p in train) == dict.fromkeys(CATEGORIES, 280)
    different = {p.text: p.meta["category"] for p in train}
    assert Counter(different.values()) == dict(zip(CATEGORIES, (68, 44, 280, 280), strict=True))
    assert sum(len(p.meta["scene"]["items"]) == 3 for p in heldout) == 7
    assert Counter(p.meta["category"] for p in prompts("train", 28)) == dict.fromkeys(CATEGORIES, 28)
    colors = {combination(parse(p.text)) for p in heldout if p.meta["category"] == "colors"}
    assert len(colors) == 7 and {name.split()[1] for name in colors} == set(COLOURS)
    numbers = Counter(p.text.split()[0] for p in heldout if p.meta["category"] == "counting")
    assert min(numbers.values()) >= 9


def test_the_heldout_split_is_this_one() -> None:
    text = "\n".join(p.text for p in prompts("heldout"))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "b5e087dcc3315f80"


def test_splits_share_no_combination() -> None:
    heldout = {combination(Scene.from_dict(p.meta["scene"])) for p in prompts("heldout")}
    train = {combination(Scene.from_dict(p.meta["scene"])) for p in prompts("train")}
    assert heldout.isdisjoint(train)
    assert all(is_heldout(parse(p.text)) for p in prompts("heldout"))
    assert not any(is_heldout(parse(p.text)) for p in prompts("train"))
    assert len({p.text for p in prompts("train") + prompts("heldout")}) == 112 + 672


def test_a_relation_and_its_mirror_lie_in_the_same_split() -> None:
    for scene in every_scene():
        if scene.relation:
            assert is_heldout(scene) == is_heldout(Scene("position", scene.items[::-1], MIRRORED[scene.relation]))


def test_no_heldout_caption_among_pretraining_captions_or_rl_prompts() -> None:
    rng = np.random.default_rng(0)
    hashes = {hashlib.sha256(p.text.encode()).digest() for p in prompts("heldout")}
    for _ in range(20_000):
        scene = sample_scene(rng)
        assert not is_heldout(scene)
        text = noisy_caption(scene, rng, 0.5)
        assert hashlib.sha256(text.encode()).digest() not in hashes
        assert not is_heldout(parse(text))
    texts = [sample_prompt(rng).text for _ in range(2000)]
    assert not any(hashlib.sha256(text.encode()).digest() in hashes for text in texts)


def test_sampled_scenes_are_balanced_and_keep_to_their_split() -> None:
    rng = np.random.default_rng(0)
    drawn = [sample_scene(rng) for _ in range(4000)]
    counts = Counter(scene.category for scene in drawn)
    assert all(abs(counts[name] - 1000) < 110 for name in CATEGORIES)
    triples = sum(len(scene.items) == 3 for scene in drawn)
    assert abs(triples / counts["color_attr"] - 0.25) < 0.05
    assert all(is_heldout(sample_scene(rng, "heldout")) for _ in range(300))


def test_noise_has_the_stated_share() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(4000)]
    read = [parse(noisy_caption(scene, rng, 0.5)) for scene in scenes]
    wrong = [b for a, b in zip(scenes, read, strict=True) if a != b]
    assert len(wrong) / 4000 == pytest.approx(0.5, abs=0.03)
    lacking = sum("None" in combination(b) for b in wrong) / len(wrong)
    assert 0.12 < lacking < 0.2
    assert all(parse(noisy_caption(scene, rng, 0.0)) == scene for scene in scenes[:200])


def test_corrupt_changes_exactly_one_clause() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        scene = sample_scene(rng)
        for clause in clauses(scene):
            other = corrupt(scene, rng, clause)
            assert parse(caption(other)) == other
            if clause == "relation":
                assert other.items == scene.items and other.relation == MIRRORED[scene.relation or ""]
            elif clause == "count":
                sizes = [sum(item.count or 0 for item in s.items) for s in (scene, other)]
                assert abs(sizes[0] - sizes[1]) == 1
                assert {(i.colour, i.shape) for i in scene.items} & {(i.colour, i.shape) for i in other.items}
            else:
                assert other.relation == scene.relation
                changed = [
                    name
                    for a, b in zip(scene.items, other.items, strict=True)
                    for name in ("count", "colour", "shape")
                    if vars(a)[name] != vars(b)[name]
                ]
                assert changed == [clause]


ITEM = {"count": 1, "colour": "red", "shape": "star"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"items": [{**ITEM, "count": 1e9}]}, "count is a whole number from 1, or null, got 1000000000.0"),
        ({"items": [{**ITEM, "count": 0}]}, "count is a whole number"),
        ({"items": [{**ITEM, "count": True}]}, "count is a whole number"),
        ({"items": [{**ITEM, "shape": "blob"}]}, "a shape of these: red, orange.*got 'red' 'blob'"),
        ({"items": [{**ITEM, "colour": ["red"]}]}, "got .'red'. 'star'"),
        ({"items": [{"count": 1}]}, "an item of a scene is"),
        ({"items": [ITEM] * 1000}, "a list of 1 to 3 items"),
        ({"items": []}, "a list of 1 to 3 items"),
        ({"items": 5}, "a list of 1 to 3 items, got 5"),
        ({"items": [ITEM, {**ITEM, "count": 2}]}, "of several items has one of each"),
        ({"relation": "left of"}, "a relation is between two items"),
        ({"relation": "under", "items": [ITEM] * 2}, "a relation is between two items"),
        ({"category": "colours"}, "category is one of colors, counting, position, color_attr, got 'colours'"),
        ({"more": 1}, "a scene is "),
    ],
)
def test_what_is_no_scene_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Scene.from_dict({"category": "colors", "items": [ITEM], "relation": None} | change)


@pytest.mark.parametrize("data", [None, 5, "scene", [], {}])
def test_what_is_no_mapping_is_no_scene(data: object) -> None:
    with pytest.raises(UserError, match="a scene is"):
        Scene.from_dict(data)


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("a red star", []),
        ("three green triangles", []),
        ("a red star and a red circle", []),
        ("a red star and a blue star", []),
        ("a red star and a blue circle", ["a blue star and a red circle"]),
        ("a red star above a red circle", ["a red circle above a red star"]),
        ("a red star above a blue circle", ["a blue circle above a red star", "a blue star above a red circle"]),
        ("a red star, a blue circle and a red circle", []),
        (
            "a red star, a blue circle and a green square",
            [
                "a blue star, a red circle and a green square",
                "a green star, a blue circle and a red square",
                "a red star, a green circle and a blue square",
            ],
        ),
    ],
)
def test_the_same_words_say_something_else(text: str, others: list[str]) -> None:
    assert [caption(each) for each in exchanged(parse(text))] == others
    assert Scenes().reordered(text) == [other for other in others if not is_heldout(parse(other))]
