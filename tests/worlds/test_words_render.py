"""Renders of words: repeatable, whole, nearly upright, dark on light, in genuine type, letters in slots."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from limner.core.errors import UserError
from limner.worlds.words import render as module
from limner.worlds.words.grammar import sample_word
from limner.worlds.words.render import DETAIL, FACES, SCALES, SIZE, TILT, WANDER, WIDTH, render

LUMA = np.array([0.2126, 0.7152, 0.0722])


def test_a_seed_repeats_the_picture() -> None:
    first, second, other = (render("KITE", np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.shape == (SIZE, SIZE, 3) and first.dtype == np.uint8
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert not np.array_equal(first, render("BITE", np.random.default_rng(3)))


@pytest.mark.parametrize("word", ["", "kite", "LETTERS", "A-B", "CAFÉ", "A B"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(UserError, match="one to five letters A to Z"):
        render(word, np.random.default_rng(0))


def test_the_word_lies_whole_on_the_sign() -> None:
    rng = np.random.default_rng(0)
    for _ in range(80):
        word = sample_word(rng)
        sign, text = module._masks(word, rng)
        assert 0 <= text.min() and text.max() <= 1 and text.max() > 0.6
        assert sign[text > 0.02].min() > 0.98
        columns = np.flatnonzero(text.max(axis=0) > 0.02)
        wide = np.ptp(columns) + 1
        assert SCALES[0] * WIDTH * (1 - 0.5 / len(word)) <= wide <= WIDTH + 4
        rows, columns = (np.flatnonzero(sign.max(axis=axis) > 0.02) for axis in (1, 0))
        assert min(rows[0], columns[0]) >= 1 and max(rows[-1], columns[-1]) <= SIZE - 2


@pytest.mark.parametrize("length", [3, 4, 5])
def test_letters_stand_in_slots_of_one_width(length: int) -> None:
    """The ink of a word whose letters are all I has its peaks a slot apart, whatever face and place."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        _, text = module._masks("I" * length, rng)
        inked = text.mean(axis=0)
        centre = float((np.arange(SIZE) + 0.5) @ inked / inked.sum())
        spread = float(((np.arange(SIZE) + 0.5 - centre) ** 2) @ inked / inked.sum()) ** 0.5
        slots = (np.arange(length) - (length - 1) / 2) * WIDTH / length
        assert abs(centre - SIZE / 2) <= WANDER + 1
        apart = np.sqrt(np.mean(slots**2))  # of letters without width: ink adds a little, a smaller size takes
        assert 0.98 * SCALES[0] <= spread / apart <= 1.12


def test_the_sign_is_near_the_middle_and_tilted_a_little() -> None:
    rng = np.random.default_rng(1)
    ys, xs = np.mgrid[:SIZE, :SIZE] + 0.5
    angles = []
    for _ in range(80):
        sign, _ = module._masks("STORM", rng)
        x, y = (float((axis * sign).sum() / sign.sum()) for axis in (xs, ys))
        assert max(abs(x - SIZE / 2), abs(y - SIZE / 2)) <= WANDER + 0.5
        xx, yy, xy = (float((a * b * sign).sum()) for a, b in ((xs - x, xs - x), (ys - y, ys - y), (xs - x, ys - y)))
        angles.append(math.degrees(0.5 * math.atan2(2 * xy, xx - yy)))
    assert max(map(abs, angles)) <= TILT + 0.5 and min(angles) < -TILT / 2 and max(angles) > TILT / 2


def test_letters_are_darker_than_the_sign() -> None:
    rng = np.random.default_rng(2)
    assert min(float((plate - ink) @ LUMA) for plate, ink in (module._colours(rng) for _ in range(1000))) > 0.35


def test_the_ground_is_plain() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        ground = module._ground(rng)
        assert ground.min() >= 0.42 and np.ptp(ground.mean(axis=2)) <= 0.15
        assert np.ptp(ground - ground.mean(axis=2, keepdims=True), axis=(0, 1)).max() <= 0.05


def test_the_faces_are_genuine_and_differ() -> None:
    names = {module._font(face, 40).getname() for face in FACES}
    assert len(names) == len(FACES)
    assert names == {("DejaVu Sans Mono", "Bold"), ("DejaVu Sans Mono", "Bold Oblique")}
    shapes = {bytes(module._font(face, 40).getmask("KITE")) for face in FACES}
    assert len(shapes) == len(FACES)
    assert DETAIL >= 2


def test_missing_typefaces_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'limner\[bench\]'"):
        module._folder.__wrapped__()
