"""The checker accepts renders, rejects mutants, survives harmless changes, and is not fooled by odd pictures."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.worlds.scenes.checker import Detection, Verdict, check, check_batch, detect, judge
from limner.worlds.scenes.grammar import MIRRORED, SHAPES, Item, Scene, clauses, corrupt, parse, sample_scene
from limner.worlds.scenes.render import _draw, render
from limner.worlds.scenes.reward import scenes

Picture = NDArray[np.uint8]
Object = tuple[str, str, float, float, float]
RGB = {
    "red": (0.87, 0.14, 0.14),
    "orange": (0.96, 0.50, 0.10),
    "blue": (0.17, 0.44, 0.86),
    "green": (0.19, 0.63, 0.29),
    "ground": (0.95, 0.95, 0.95),
    "ghost": (0.95, 0.86, 0.86),
    "pink": (0.95, 0.60, 0.60),
    "dark": (0.40, 0.02, 0.02),
    "vermilion": (0.90, 0.27, 0.10),
}
RED_CIRCLE: list[Object] = [("red", "circle", 32, 32, 13)]
RED_CIRCLE_SCENE = parse("a red circle")


def draw(objects: list[Object], ground: float = 0.95) -> Picture:
    """Draw named objects (colour, shape, x, y, circumscribed radius)."""
    picture = np.full((64, 64, 3), ground)
    for colour, shape, x, y, radius in objects:
        _draw(picture, shape, (x, y), radius, 0.0, np.array(RGB[colour]))
    return np.round(picture * 255).astype(np.uint8)


def polygon(points: list[tuple[float, float]]) -> Picture:
    """Draw a red polygon around (32, 32)."""
    image = Image.new("RGB", (512, 512), (242, 242, 242))
    ImageDraw.Draw(image).polygon([(8 * (32 + x), 8 * (32 + y)) for x, y in points], fill=(222, 36, 36))
    return np.asarray(image.resize((64, 64), Image.Resampling.BOX))


def star_points(tips: int, inner: float, radius: float = 14.0) -> list[tuple[float, float]]:
    """Return the outline of a star; `inner` is the notch's share of the radius."""
    radii = [radius * (inner if i % 2 else 1.0) for i in range(2 * tips)]
    return [(r * math.sin(math.pi * i / tips), -r * math.cos(math.pi * i / tips)) for i, r in enumerate(radii)]


@functools.cache
def renders(num: int, seed: int = 0) -> tuple[list[Scene], list[Picture]]:
    """Draw scenes and their renders."""
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng) for _ in range(num)]
    return scenes, [render(scene, rng) for scene in scenes]


def jpeg(image: Picture) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def noise(image: Picture) -> Picture:
    return np.clip(np.round(image + np.random.default_rng(0).normal(0, 4, image.shape)), 0, 255).astype(np.uint8)


def shift(image: Picture) -> Picture:
    return np.pad(image, ((1, 0), (1, 0), (0, 0)), mode="edge")[:64, :64]


def blur(image: Picture) -> Picture:
    return np.round(ndimage.gaussian_filter(image.astype(float), (0.7, 0.7, 0))).astype(np.uint8)


def test_accepts_renders_and_rejects_mutants() -> None:
    scenes, images = renders(300)
    rng = np.random.default_rng(1)
    assert check_batch(np.stack(images), scenes)["correct"].mean() >= 0.995
    mutants = [
        judge(seen, corrupt(scene, rng, clause)).correct
        for seen, scene in zip([detect(image) for image in images], scenes, strict=True)
        for clause in clauses(scene)
    ]
    assert len(mutants) == 900 and np.mean(mutants) <= 0.01


@pytest.mark.parametrize("change", [jpeg, shift, noise, blur])
def test_survives_harmless_changes(change: Callable[[Picture], Picture]) -> None:
    scenes, images = renders(300)
    accepted = [check(change(image), scene).correct for scene, image in zip(scenes, images, strict=True)]
    assert np.mean(accepted) >= 0.97


def test_each_wrong_clause_is_named() -> None:
    image = draw([("red", "circle", 16, 32, 10), ("blue", "square", 46, 32, 12)])
    expected = {
        "a red circle left of a blue square": (True, True, True, True),
        "a blue square right of a red circle": (True, True, True, True),
        "a red circle right of a blue square": (True, True, True, False),
        "a red circle above a blue square": (True, True, True, False),
        "a green circle left of a blue square": (True, False, True, True),
        "a red star left of a blue square": (True, True, False, True),
        "a red circle and a blue square": (True, True, True, True),
        "a blue circle and a red square": (True, False, True, True),
        "a red circle": (False, True, True, True),
        "two red circles": (True, False, False, True),
        "a red circle, a blue square and a green star": (False, True, True, True),
        "a circle left of a blue square": (True, True, True, True),
    }
    for text, clauses_seen in expected.items():
        verdict = check(image, parse(text))
        assert (verdict.count, verdict.colour, verdict.shape, verdict.position) == clauses_seen, text
        assert verdict.correct == all(clauses_seen)
    assert check(image, parse("a red circle above a blue square")).fraction == pytest.approx(0.75)
    assert check(image, parse("two red circles")).fraction == pytest.approx(1 / 3)


def test_batch_agrees_with_single() -> None:
    scenes, images = renders(12, seed=5)
    columns = check_batch(np.stack(images), scenes[::-1])
    for i, (image, scene) in enumerate(zip(images, scenes[::-1], strict=True)):
        verdict = check(image, scene)
        for name in ("count", "colour", "shape", "position", "correct", "fraction"):
            assert columns[name][i] == pytest.approx(float(vars(verdict).get(name, verdict.correct)))


def test_positions_are_measured() -> None:
    scene = Scene("position", (Item(1, "red", "star"), Item(1, "green", "triangle")), "below")
    seen = detect(render(scene, np.random.default_rng(0)))
    assert {(d.colour, d.shape) for d in seen} == {("red", "star"), ("green", "triangle")}
    assert judge(seen, scene).correct
    assert not judge(seen, Scene("position", scene.items, MIRRORED["below"])).correct
    (disc,) = detect(draw([("red", "circle", 20.5, 40.25, 10)]))
    assert disc.centre == pytest.approx((20.5, 40.25), abs=0.05)
    assert disc.area == pytest.approx(math.pi * 100, rel=0.02)


def test_diagonal_pairs_satisfy_no_relation() -> None:
    image = draw([("red", "circle", 16, 16, 9), ("blue", "circle", 46, 46, 9)])
    relations = ("left of", "right of", "above", "below")
    assert not any(check(image, parse(f"a red circle {r} a blue circle")).correct for r in relations)


def test_unclear_objects_satisfy_no_clause() -> None:
    unknown = Detection(None, None, (32.0, 32.0), 300.0, "unclear")
    verdict = judge([unknown], RED_CIRCLE_SCENE)
    assert verdict.count and not verdict.colour and not verdict.shape
    assert not judge([unknown], parse("a circle")).correct
    assert judge([], RED_CIRCLE_SCENE).fraction == 0.0


def half_coloured() -> Picture:
    image, other = draw(RED_CIRCLE), draw([("blue", "circle", 32, 32, 13)])
    image[:, 32:] = other[:, 32:]
    return image


def line() -> Picture:
    image = draw(RED_CIRCLE)
    image[60, 4:60] = 40
    return image


def stripes() -> Picture:
    image = draw(RED_CIRCLE)
    image[::4] = 242
    return image


ODD: dict[str, Picture] = {
    "blank": draw([]),
    "noise": np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8),
    "textured ground": np.clip(draw(RED_CIRCLE) + np.random.default_rng(0).normal(0, 14, (64, 64, 3)), 0, 255).astype(
        np.uint8
    ),
    "dark ground": draw(RED_CIRCLE, ground=0.5),
    "ring": draw([*RED_CIRCLE, ("ground", "circle", 32, 32, 5)]),
    "small hole": draw([*RED_CIRCLE, ("ground", "circle", 32, 32, 2)]),
    "rim of another colour": draw([("orange", "circle", 32, 32, 13), ("red", "circle", 32, 32, 10.5)]),
    "half red and half blue": half_coloured(),
    "cropped": draw([("red", "circle", 8, 32, 13)]),
    "barely cropped": draw([("red", "circle", 12.4, 32, 13)]),
    "two touching": draw([("red", "circle", 20, 32, 11), ("red", "circle", 41.5, 32, 11)]),
    "touching another colour": draw([("red", "circle", 20, 32, 11), ("blue", "circle", 41.5, 32, 11)]),
    "speck": draw([*RED_CIRCLE, ("blue", "circle", 56, 8, 1.5)]),
    "ghost": draw([("red", "circle", 26, 26, 11), ("ghost", "circle", 50, 50, 8)]),
    "line": line(),
    "stripes": stripes(),
    "tiny": draw([("red", "circle", 32, 32, 4)]),
    "pink": draw([("pink", "circle", 32, 32, 13)]),
    "nearly black": draw([("dark", "circle", 32, 32, 13)]),
    "between red and orange": draw([("vermilion", "circle", 32, 32, 13)]),
    "very blurred": np.round(ndimage.gaussian_filter(draw(RED_CIRCLE).astype(float), (2.5, 2.5, 0))).astype(np.uint8),
    "inverted": 255 - draw(RED_CIRCLE),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_show_no_red_circle(name: str) -> None:
    assert check(draw(RED_CIRCLE), RED_CIRCLE_SCENE).correct
    assert not check(ODD[name], RED_CIRCLE_SCENE).correct
    if name.startswith("two"):
        assert not check(ODD[name], parse("two red circles")).correct
    if name.startswith("touching"):
        assert not check(ODD[name], parse("a red circle and a blue circle")).correct


OUTLINES: dict[str, list[tuple[float, float]]] = {
    "pentagon": star_points(5, math.cos(math.pi / 5)),
    "hexagon": star_points(6, math.cos(math.pi / 6)),
    "four-pointed star": star_points(4, 0.5),
    "six-pointed star": star_points(6, 0.55),
    "seven-pointed star": star_points(7, 0.5),
    "needle star": star_points(5, 0.28),
    "rectangle": [(-14, -9), (14, -9), (14, 9), (-14, 9)],
    "right triangle": [(-12, 10), (-12, -12), (10, 10)],
    "tall triangle": [(-9, 14), (0, -18), (9, 14)],
    "half disc": [(13 * math.cos(a), 13 * math.sin(a) - 5) for a in np.linspace(0, math.pi, 40)],
    "ellipse": [(14 * math.cos(a), 10.5 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 80)],
    "pacman": [(0, 0), *((13 * math.cos(a), 13 * math.sin(a)) for a in np.linspace(0.5, 5.8, 60))],
}


@pytest.mark.parametrize("name", OUTLINES)
def test_other_outlines_are_no_shape(name: str) -> None:
    (seen,) = detect(polygon(OUTLINES[name]))
    assert seen.colour == "red" and seen.shape is None
    assert not any(check(polygon(OUTLINES[name]), parse(f"a red {shape}")).correct for shape in SHAPES)


def test_however_many_are_wanted_those_that_are_seen_are_judged_alike_and_at_once() -> None:
    """Of equal objects no more than there are to assign matter: a count of 10**9 is judged as one of five."""
    scene, image = parse("four red circles"), draw([("red", "circle", 16, 16, 9), ("blue", "circle", 46, 46, 9)])
    seen = detect(image)
    many, five = (judge(seen, replace(scene, items=(replace(scene.items[0], count=n),))) for n in (10**9, 5))
    assert many == five == Verdict(False, False, True, True, pytest.approx(1 / 3))


def test_a_picture_of_another_size_is_refused_by_the_reward() -> None:
    with pytest.raises(UserError, match=r"pictures of 64 x 64 pixels, got \(6, 4\)"):
        scenes(Images(torch.rand(1, 3, 6, 4)), [Prompt("a red star")])
