"""The reward card says what the spec says."""

import math
from dataclasses import replace

import torch

from limner.core.types import RewardSpec
from limner.report.reward_card import extremes, lit, reward_card

SPEC = RewardSpec(
    "shine",
    "how much of the picture shines, " * 6,
    low=0.0,
    high=12.5,
    unit="lux",
    needs=("prompt", "meta.lamp"),
    axes=("H", "W"),
    components={"spots": "number of bright spots, 0 or more"},
    maps={"where": "light in each place"},
    differentiable=True,
    version="7",
    source="Somebody, arXiv:0000.00000",
    weights_licence="MIT",
)


def test_every_field_is_on_the_card() -> None:
    text = reward_card(SPEC)
    joined = " ".join(text.split())
    for part in (
        "shine measures how much of the picture shines,",
        "score 0 to 12.5 lux; higher is better",
        "reads the media (axes H, W), prompt, meta.lamp",
        ".spots number of bright spots, 0 or more",
        "map where light in each place",
        "properties gradients reach the pixels; the same every time",
        "source Somebody, arXiv:0000.00000",
        "licence code Apache-2.0; weights MIT",
        "version 7",
    ):
        assert part in joined, part
    assert max(map(len, text.splitlines())) <= 100


def test_a_reward_without_bounds_or_weights() -> None:
    joined = " ".join(reward_card(RewardSpec("x", "y")).split())
    assert "score any number; higher is better" in joined and "no weights" in joined and "source" not in joined
    assert "score -inf to 0" in " ".join(reward_card(RewardSpec("x", "y", high=0.0)).split())


def test_the_best_and_the_worst_are_shown_once() -> None:
    score = torch.tensor([0.5, math.nan, 2.0, -1.0, 0.7, 0.1])
    assert extremes(score, 2).tolist() == [2, 4, 5, 3]
    assert extremes(score, 9).tolist() == [2, 4, 5, 3]
    assert extremes(torch.tensor([math.nan, 1.0]), 3).tolist() == []


def test_a_map_lights_its_picture() -> None:
    """Of all maps the lowest value, and NaN, leave a quarter of the light; the highest all; between them in between."""
    maps = torch.tensor([[[1.0, 3.0]], [[2.0, math.nan]]])
    shown = lit(torch.full((2, 3, 2, 4), 200, dtype=torch.uint8), maps)
    assert shown[0, 0].tolist() == [[50, 50, 200, 200]] * 2 and shown[1, 2].tolist() == [[125, 125, 50, 50]] * 2
    assert lit(torch.full((1, 3, 2, 2), 200, dtype=torch.uint8), torch.full((1, 1, 1), math.nan)).eq(50).all()


def test_a_long_name_keeps_its_distance() -> None:
    spec = replace(SPEC, components={"a_very_long_component_name": "0 to 1: meaning"})
    lines = reward_card(spec).splitlines()[1:]
    (named,) = (line for line in lines if "a_very_long" in line)
    column = named.index("0 to 1")
    assert named[column - 2 : column] == "  "
    assert all(line[column] != " " and line[column - 1] == " " for line in lines)
