"""The emoji language: its split by families, its captions and prompts, their noise, and the pictures beside them."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
import pytest

from limner.core.errors import UserError
from limner.models.clip import word_tokenizer
from limner.worlds.emoji.grammar import (
    LENGTH,
    VOCABULARY,
    emojis,
    families,
    noisy_caption,
    phrase,
    pictures,
    prompts,
)
from limner.worlds.emoji.world import Emojis


def place(name: str) -> float:
    """The fixed pseudo-random number of a family, computed anew."""
    return int(hashlib.sha256(f"limner emoji:{name}".encode()).hexdigest()[:16], 16) / 2**64


def test_a_family_lies_in_one_part_by_its_hash() -> None:
    parts = defaultdict(set)
    for emoji in emojis():
        parts[emoji.family].add(emoji.part)
    assert all(len(found) == 1 for found in parts.values()) and len(parts) == 1389
    for family, (part,) in parts.items():
        if part == "heldout":
            assert place(family) < 0.3
        else:
            assert part == ("a" if place(f"{family}:half") < 0.5 else "b")
    sizes = {part: len(families(part)) for part in ("a", "b", "heldout")}
    assert sizes == {"a": 586, "b": 659, "heldout": 144}


def test_tones_and_genders_are_one_family() -> None:
    of = {emoji.code: emoji.family for emoji in emojis()}
    assert of["1f44b"] == of["1f44b-1f3fb"] == of["1f44b-1f3ff"]
    assert of["1f9d1-200d-1f373"] == of["1f468-200d-1f373"] == of["1f469-1f3fd-200d-1f373"]
    toned = [e for e in emojis() if "skin tone" in e.label]
    assert len(toned) > 1000 and all("1f3f" not in e.family or e.family == "1f3f3" for e in toned)


def test_pictures_that_look_alike_are_of_one_family() -> None:
    """Of the pictures that stand for families: 16 x 16 thumbnails differ by 0.05 (RMS) or more; the file is lossy."""
    first = [rows[0] for rows in families("a", "b", "heldout")]
    small = pictures()[first].reshape(-1, 16, 4, 16, 4, 3).mean((2, 4)).reshape(len(first), -1) / 255
    squares = (small**2).sum(1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * small @ small.T, 0) / small.shape[1])
    np.fill_diagonal(distance, 1)
    assert distance.min() > 0.045


def test_every_picture_has_its_caption() -> None:
    assert pictures().shape == (3129, 64, 64, 3) == (len(emojis()), 64, 64, 3) and pictures().dtype == np.uint8
    codes = [emoji.code for emoji in emojis()]
    colour = {name: pictures()[codes.index(code)][20:44, 20:44].mean((0, 1))
              for name, code in {"red": "1f34e", "green": "1f34f", "white": "26aa"}.items()}  # fmt: skip
    assert colour["red"][0] > colour["red"][1] + 80 and colour["green"][1] > colour["green"][2] + 80
    assert colour["white"].min() > 200


def test_heldout_labels_use_words_that_training_captions_use() -> None:
    taught = {
        word for e in emojis() if e.part != "heldout" for text in (e.label, e.kind, *e.tags) for word in text.split()
    }
    assert all(word in taught for rows in families("heldout") for word in emojis()[rows[0]].label.split())
    assert set(VOCABULARY.alone) == taught


def test_prompts_are_one_a_family_and_apart() -> None:
    train, heldout = prompts("train"), prompts("heldout")
    assert len(train) == 1245 and len({p.text for p in heldout}) == len(heldout) == 144
    assert not {p.meta["family"] for p in train} & {p.meta["family"] for p in heldout}
    assert not {p.text for p in train} & {p.text for p in heldout}
    assert prompts("train", 7) == train[:7] and "tone" not in "".join(p.text for p in heldout)
    with pytest.raises(UserError, match="heldout has 144, one a family, got count 145"):
        prompts("heldout", 145)


def test_a_caption_is_a_token_a_word_and_not_too_long() -> None:
    tokenizer = word_tokenizer(VOCABULARY.words, VOCABULARY.max_length, VOCABULARY.alone)
    for prompt in [*prompts("heldout"), *prompts("train", 100)]:
        count = len(prompt.text.replace(",", " ,").split())
        assert len(tokenizer.tokenize(prompt.text)) == count <= LENGTH
    assert max(len(emoji.caption.replace(",", " ,").split()) for emoji in emojis()) <= LENGTH
    assert phrase("red apple", ["food fruit", "health"]) == "red apple, food fruit, health"
    assert phrase("a " * 7 + "a", ["b b b b b b b", "c c"]) == "a " * 7 + "a, c c"


def test_noise_names_another_family_and_never_a_heldout_one() -> None:
    rng = np.random.default_rng(0)
    labels = defaultdict(set)
    for emoji in emojis():
        labels[emoji.label].add(emoji.family)
    taught = {emoji.label for emoji in emojis() if emoji.part != "heldout"}
    row = families("a")[0][0]
    named = [noisy_caption(row, rng, 0.4).split(", ")[0] for _ in range(2000)]
    wrong = [label for label in named if label != emojis()[row].label]
    assert abs(len(wrong) / 2000 - 0.4) < 0.04
    assert all(labels[label] - {emojis()[row].family} for label in wrong) and set(wrong) <= taught


def test_a_pair() -> None:
    world = Emojis()
    trained = {emoji.label for emoji in emojis() if emoji.part != "heldout"}
    for seed in range(30):
        picture, (clean, noisy) = world.pair(np.random.default_rng(seed), 0.0, 1.0)
        again, (alone,) = world.pair(np.random.default_rng(seed), 1.0)
        assert np.array_equal(picture, again) and noisy == alone, "a caption depends on its own share alone"
        assert picture.shape == (64, 64, 3) and {clean.split(", ")[0], noisy.split(", ")[0]} <= trained
