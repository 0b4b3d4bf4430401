"""Renders of words: repeatable, whole, upright enough, dark on light or the reverse, in genuine typefaces."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from limner.core.errors import UserError
from limner.worlds.words import render as module
from limner.worlds.words.grammar import sample_word
from limner.worlds.words.render import DETAIL, FACES, HEIGHT, SCALES, SIZE, TILT, WANDER, WIDTH, render

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
        rows, columns = (np.flatnonzero(text.max(axis=axis) > 0.02) for axis in (1, 0))
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        slope = math.tan(math.radians(TILT))
        assert wide <= WIDTH + HEIGHT * slope + 2 and tall <= HEIGHT + WIDTH * slope + 2
        assert wide >= SCALES[0] * WIDTH - 2 or tall >= SCALES[0] * HEIGHT - 2
        assert min(rows[0], columns[0]) >= 1 and max(rows[-1], columns[-1]) <= SIZE - 2


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


def test_letters_and_sign_differ_in_lightness_either_way() -> None:
    rng = np.random.default_rng(2)
    differences = [float((plate - ink) @ LUMA) for plate, ink in (module._colours(rng) for _ in range(1000))]
    assert min(map(abs, differences)) > 0.25
    assert 0.45 < np.mean(np.array(differences) > 0) < 0.55


def test_the_ground_is_plain() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        ground = module._ground(rng)
        assert ground.min() >= 0.5 and np.ptp(ground.mean(axis=2)) <= 0.15
        assert np.ptp(ground - ground.mean(axis=2, keepdims=True), axis=(0, 1)).max() <= 0.05


def test_the_faces_are_genuine_and_differ() -> None:
    names = {module._font(face, 40).getname() for face in FACES}
    assert len(names) == len(FACES)
    assert {family for family, _ in names} == {"DejaVu Sans", "DejaVu Sans Mono", "DejaVu Serif"}
    shapes = {bytes(module._font(face, 40).getmask("KITE")) for face in FACES}
    assert len(shapes) == len(FACES)
    assert DETAIL >= 2


def test_missing_typefaces_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'limner\[bench\]'"):
        module._folder.__wrapped__()
