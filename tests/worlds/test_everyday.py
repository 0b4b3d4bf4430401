"""The prompts of everyday things: nothing twice, nothing in both splits, plain English, and read by the judges."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import torch

from limner.build import load_prompts
from limner.core.types import Prompt
from limner.rewards.ocr.spelling import wanted_text
from limner.rewards.vision.geneval import judge, require_form
from limner.rewards.vision.geneval_hf import COLOURS as KNOWN_COLOURS
from limner.rewards.vision.segment import Instance
from limner.rewards.vlm.forms import questions_of
from limner.worlds.everyday import actions, objects
from limner.worlds.everyday.asked import plural, singular
from limner.worlds.words.grammar import is_heldout as is_heldout_word

GENEVAL = {"single_object", "two_object", "counting", "colors", "position", "color_attr"}
CATEGORIES = {
    "objects": {*GENEVAL, "scenes", "materials", "lighting", "styles"},
    "actions": {"motion", "direction", "tempo", "camera", "interaction", "counting", "people", "physics"},
}
COCO = """person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign parking_meter
bench bird cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase frisbee skis
snowboard sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork
knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed
dining_table toilet tv laptop computer_mouse tv_remote computer_keyboard cell_phone microwave oven toaster sink
refrigerator book clock vase scissors teddy_bear hair_drier toothbrush"""
"""The 80 classes of COCO, three of them under GenEval's names."""
NO_MASK = torch.zeros(1, 1, dtype=torch.bool)
SETS = ("objects", "actions", "signs")


@pytest.fixture(params=SETS)
def both(request: pytest.FixtureRequest) -> tuple[str, list[Prompt], list[Prompt]]:
    return request.param, load_prompts(f"{request.param}:train"), load_prompts(f"{request.param}:heldout")


def test_nothing_comes_twice_or_in_both_splits(both: tuple[str, list[Prompt], list[Prompt]]) -> None:
    name, train, heldout = both
    assert (len(train), len(heldout)) == {"objects": (400, 120)}.get(name, (320, 96))
    texts = [prompt.text for prompt in train + heldout]
    assert len(set(texts)) == len(texts)
    for split, prompts in (("train", train), ("heldout", heldout)):
        if name != "signs":
            each = {"train": 40, "heldout": 12}[split]
            assert Counter(p.meta["category"] for p in prompts) == dict.fromkeys(CATEGORIES[name], each)
        assert load_prompts(f"{name}:{split}") == prompts
        json.dumps([dict(p.meta) for p in prompts])


def content(text: str) -> frozenset[str]:
    """The words that are left of a sentence when what only words it differently is gone."""
    return frozenset(re.findall(r"\w+", text)) - {"a", "an", "and", "photograph", "close", "up", "of", "clip", "which"}


@pytest.mark.parametrize("category", sorted(GENEVAL - {"position"}))
def test_no_combination_is_in_both_splits_however_it_is_worded(category: str) -> None:
    """What is asked for is read off the sentence and off `include`, not from the hash's own name for it."""
    asked = []
    for split in ("train", "heldout"):
        of = [p for p in load_prompts(f"objects:{split}") if p.meta["category"] == category]
        claims = {frozenset((e["class"], e["count"], e.get("color")) for e in p.meta["include"]) for p in of}
        assert len(claims) == len(of)
        asked.append((claims, {content(p.text) for p in of}))
    (train, taught), (heldout, measured) = asked
    assert train.isdisjoint(heldout) and (category == "color_attr" or taught.isdisjoint(measured))


def test_a_place_is_held_out_from_either_side() -> None:
    other = {"right of": "left of", "below": "above", "left of": "left of", "above": "above"}

    def claim(prompt: Prompt) -> tuple[str, str, str]:
        target, thing = prompt.meta["include"]
        relation, index = thing["position"]
        pair = (thing["class"], target["class"])
        assert index == 0
        return (*(pair if relation in ("left of", "above") else pair[::-1]), other[relation])

    splits = [[p for p in load_prompts(f"objects:{s}") if p.meta["category"] == "position"] for s in SPLITS]
    train, heldout = ({claim(p) for p in of} for of in splits)
    assert len(train) == 40 and len(heldout) == 12 and train.isdisjoint(heldout)
    relations = Counter(p.meta["include"][1]["position"][0] for of in splits for p in of)
    assert relations.keys() == other.keys() and min(relations.values()) >= 5


SPLITS = ("train", "heldout")


def test_sentences_are_english(both: tuple[str, list[Prompt], list[Prompt]]) -> None:
    """Short enough for CLIP's 77 tokens: fewer than 20 words, which are hardly ever more than two tokens each."""
    spoken_otherwise = re.compile(r"(?i)\b(uni|use|eu|one|once|hour|hono|heir)\w*")
    for prompt in (p for of in both[1:] for p in of):
        text = re.sub(r'"[A-Z]+"', '"WORD"', prompt.text)
        assert not spoken_otherwise.search(text.replace("one by one", "")), text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |\{|\}|_", text), text
        assert text == text.strip() and len(prompt.text.split()) < 20 and prompt.text.isascii()
        assert not re.search(r"\b(\w+) \1\b", text), text


@pytest.mark.parametrize(
    ("one", "several"),
    [("knife", "knives"), ("computer mouse", "computer mice"), ("wine glass", "wine glasses"), ("sheep", "sheep")]
    + [("bus", "buses"), ("bench", "benches"), ("toothbrush", "toothbrushes"), ("child", "children"), ("cup", "cups")],
)
def test_plurals(one: str, several: str) -> None:
    assert plural(one) == several and singular(one) == f"a {one}" and singular("orange cup") == "an orange cup"


def test_numbers_and_colours_stand_in_the_sentence_as_in_the_data() -> None:
    numbers = {"two": 2, "three": 3, "four": 4, "five": 5}
    for prompt in (p for split in SPLITS for p in load_prompts(f"objects:{split}")):
        said = [numbers[word] for word in prompt.text.split() if word in numbers]
        entries = prompt.meta["include"]
        assert said == [entry["count"] for entry in entries if entry["count"] > 1], prompt
        for entry in entries:
            name = entry["class"].replace("tv", "TV")
            thing = f"{entry['color']} {name}" if "color" in entry else name
            assert (thing if entry["count"] == 1 else plural(thing)) in prompt.text, prompt
        assert prompt.meta["tag"] == prompt.meta["category"]


def test_genevals_judge_reads_every_prompt_of_objects() -> None:
    """Its classes are COCO's, its colours those that the judge tells apart; things as asked satisfy it, others not."""
    known = {name.replace("_", " ") for name in COCO.split()}
    assert len(known) == 80 and set(objects.OBJECTS) <= known and len(set(objects.OBJECTS)) == len(objects.OBJECTS)
    assert set(objects.COLOURS) <= set(KNOWN_COLOURS)
    places = {"left of": (-9, 0), "right of": (9, 0), "above": (0, -9), "below": (0, 9)}
    for prompt in (p for split in SPLITS for p in load_prompts(f"objects:{split}")):
        require_form(prompt.meta, prompt.text)
        found, colours = {}, {}
        for entry in prompt.meta["include"]:
            x, y = places[entry["position"][0]] if "position" in entry else (0, 0)
            things = [Instance(entry["class"], 1.0, (x, y, x + 2, y + 2), NO_MASK) for _ in range(entry["count"])]
            found[entry["class"]], colours[entry["class"]] = things, entry.get("color", "")
        assert judge(found, prompt.meta, lambda _, name: colours[name], strict=True)[0] == 1.0, prompt  # noqa: B023
        (first, *_), *_ = found.values()
        lacking = {**found, first.label: found[first.label][1:]}
        assert judge(lacking, prompt.meta, lambda _, name: colours[name], strict=False)[0] == 0.0, prompt  # noqa: B023


def test_a_checklist_reads_every_prompt_of_objects() -> None:
    for prompt in (p for split in SPLITS for p in load_prompts(f"objects:{split}")):
        questions = questions_of(prompt.meta["atoms"], "atoms")
        assert all(q.answer and re.fullmatch(r"(Is|Are|Does) .*\?", q.text) for q in questions)
        nouns = content(prompt.text) - {"to", "the", "that", "shows"}
        asked = content(" ".join(q.text for q in questions))
        assert nouns <= asked, (prompt.text, nouns - asked)


def test_words_that_move_are_read_and_those_held_out_are_not_trained_on() -> None:
    for split in SPLITS:
        for prompt in load_prompts(f"signs:{split}"):
            word = prompt.meta["text"]
            assert f'"{word}"' in prompt.text and wanted_text(prompt) == wanted_text(Prompt(prompt.text)) == word
            assert is_heldout_word(word) == (split == "heldout")
        assert actions.signs("train", 7) == load_prompts("signs:train")[:7]  # type: ignore[comparison-overlap]


def test_a_part_is_the_first_of_each_category() -> None:
    few = objects.prompts("heldout", 2)
    assert len(few) == 20 and all(p in load_prompts("objects:heldout") for p in few)
    assert objects.prompts("train", 1000) == load_prompts("objects:train")
