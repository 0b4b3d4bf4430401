"""The reward card says what the spec says."""

import math

import torch

from limner.core.reward import RewardSpec
from limner.report.reward_card import extremes, reward_card

SPEC = RewardSpec(
    "shine",
    "how much of the picture shines, " * 6,
    low=0.0,
    high=12.5,
    unit="lux",
    needs=("prompt", "meta.lamp"),
    axes=("H", "W"),
    components={"spots": "number of bright spots, 0 or more"},
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
