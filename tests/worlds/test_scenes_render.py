"""Renders: apart, inside, in the stated relation, in the stated colour, repeatable."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from limner.worlds.scenes.grammar import COLOURS, RELATIONS, SHAPES, Item, Scene, parse, sample_scene
from limner.worlds.scenes.render import GAP, HSV, MARGIN, REACH, SIZE, _place, render


def test_a_seed_repeats_the_picture() -> None:
    scene = parse("a red star left of a blue square")
    first, second, other = (render(scene, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert np.array_equal(first, second) and not np.array_equal(first, other)


@pytest.mark.parametrize("relation", [None, *RELATIONS])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_objects_stay_apart_inside_and_related(count: int, relation: str | None) -> None:
    if relation is not None and count != 2:
        return
    rng = np.random.default_rng(count)
    for _ in range(40):
        scale = np.array([REACH[SHAPES[int(i)]] for i in rng.integers(0, 4, count)])
        centres, radii = _place(scale, relation, rng)
        assert ((centres - radii[:, None] >= MARGIN - 1e-9) & (centres + radii[:, None] <= SIZE - MARGIN + 1e-9)).all()
        for i in range(count):
            for j in range(i):
                assert math.dist(centres[i], centres[j]) >= radii[i] + radii[j] + GAP - 1e-9
        if relation is not None:
            dx, dy = centres[1] - centres[0]
            along = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation]
            across = dy if relation in ("left of", "right of") else dx
            assert along >= 20.0 and abs(across) <= 12.0


@pytest.mark.parametrize("shape", SHAPES)
def test_area_is_that_of_the_shape(shape: str) -> None:
    tips, inner = {"circle": (0, 0.0), "square": (4, math.sqrt(0.5)), "triangle": (3, 0.5), "star": (5, 0.47)}[shape]
    rng = np.random.default_rng(0)
    for _ in range(10):
        image = render(Scene("colors", (Item(1, "blue", shape),)), rng).astype(float)
        ground, paint = np.median(image[:2], axis=(0, 1)), image.reshape(-1, 3)[image[..., 0].argmin()]
        alpha = ((image - ground) @ (paint - ground)) / np.sum((paint - ground) ** 2)
        area = float(alpha[alpha > 0.1].sum())
        reach = math.sqrt(area / (math.pi if shape == "circle" else tips * inner * math.sin(math.pi / tips)))
        assert 9.0 * 0.93 <= reach / REACH[shape] <= 12.0 * 1.07


@pytest.mark.parametrize("colour", COLOURS)
def test_colour_is_near_its_name(colour: str) -> None:
    import colorsys

    rng = np.random.default_rng(1)
    image = render(Scene("counting", (Item(3, colour, "circle"),)), rng)
    dark = image.astype(int).reshape(-1, 3)
    spread = dark.max(axis=1) - dark.min(axis=1)
    hue, _, _ = colorsys.rgb_to_hsv(*(dark[spread.argmax()] / 255.0))
    assert abs((hue * 360.0 - HSV[colour][0] + 180.0) % 360.0 - 180.0) <= 5.0


def test_number_of_objects_and_light_ground() -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        scene = sample_scene(rng)
        image = render(scene, rng).astype(float)
        assert image[0].min() > 210 and np.ptp(image[0], axis=1).max() < 25
        objects = ndimage.label(np.abs(image - image[0, 0]).max(axis=2) > 60, np.ones((3, 3)))[1]
        assert objects == sum(item.count or 0 for item in scene.items)


def test_what_is_not_stated_is_drawn() -> None:
    rng = np.random.default_rng(0)
    seen = Counter(
        ndimage.label(np.ptp(render(parse("red circles"), rng).astype(int), axis=2) > 100)[1] for _ in range(60)
    )
    assert set(seen) == {2, 3, 4}
    reds = {bool(render(parse("a circle"), rng)[..., 2].min() < 120) for _ in range(30)}
    assert reds == {True, False}
