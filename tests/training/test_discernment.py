"""What a dry run says of judges: the numbers by hand, and a true sentence for each kind of fault."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.media import Images, Media, Shown
from limner.core.rng import Rng
from limner.core.types import Prompt, RewardSpec, Rollout, Scored
from limner.judging.checked import Checked
from limner.judging.spec import declare
from limner.rewards.algebra.compose import Composition
from limner.rewards.algebra.tree import Leaf
from limner.training.discernment import Discernment, discern, shaken
from limner.training.discernment import level as level_notice

GROUP = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
RED = torch.tensor([10, 20, 30, 40, 110, 120, 130, 140], dtype=torch.uint8)


def seen(reward: Any, red: Tensor = RED) -> Discernment:
    """Judge eight pictures, two groups of four, and discern."""
    media = Images(red[:, None, None, None].expand(8, 3, 16, 16).contiguous())
    judges = Composition(Leaf("mine"), {Leaf("mine"): Checked("mine", reward)})
    prompts = [Prompt("a"), Prompt("b")]
    rollout = Rollout(prompts, GROUP, GROUP, {}, torch.zeros(8, 1), None, torch.arange(8), 0)
    columns = judges.columns(media, rollout.prompt_of())
    composed = judges.total(columns, GROUP)
    scored = Scored(rollout, columns, composed.valid, composed.total, composed.terms)
    (found,) = discern(judges, scored, Shown(media, torch.ones(8, dtype=torch.bool)), 8, Rng((0,)))
    return found


def level(media: Media) -> Tensor:
    return 255 * media.frames().double().mean((1, 2, 3, 4))


def test_the_numbers_are_those_by_hand() -> None:
    """Deviations of -15, -5, 5, 15 in each group: sqrt(2 * 500 / 6); a mean over 768 levels hardly moves."""
    found = seen(lambda media, prompts: level(media))
    assert found.spread == pytest.approx(math.sqrt(1000 / 6), rel=1e-6)
    assert (found.groups, found.constant, found.sign, found.again) == (2, 0, 1, 0)
    assert found.shaken is not None and 0 < found.shaken < 0.1
    assert found.notice == ""
    assert str(found).startswith("10 to 140, more is better; ± 13 within groups, ± 0 asked again, ± 0.0")


def test_a_judge_that_draws_lots_is_told_its_share_of_noise() -> None:
    """Uniform noise of width w has the variance w^2 / 12, of the judge alone and within groups."""
    generator = torch.Generator().manual_seed(0)
    found = seen(lambda media, prompts: level(media) + 80 * torch.rand(8, generator=generator, dtype=torch.float64))
    assert found.again is not None and 0.5 < found.again / (80 / math.sqrt(12)) < 1.5
    assert "contradicts itself" in found.notice and "of what is learned would be noise" in found.notice
    assert "claims to be deterministic" not in found.notice

    @declare(RewardSpec("mine", "lots"))
    def lots(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        return torch.rand(8, generator=generator)

    assert "though it claims to be deterministic" in seen(lots).notice


def test_a_judge_of_what_nobody_sees() -> None:
    found = seen(lambda media, prompts: (255 * media.frames()[:, 0, 0, 0, 0] * 7).round() % 11)
    assert "answers to what nobody sees" in found.notice


def constant(media: Media, prompts: Sequence[Prompt]) -> Tensor:
    return torch.full((len(prompts),), 0.35)


def nearly_constant(media: Media, prompts: Sequence[Prompt]) -> Tensor:
    return torch.full((len(prompts),), 0.35) + 1e-8 * torch.arange(len(prompts))


def large_offset(media: Media, prompts: Sequence[Prompt]) -> list[float]:
    return [1.7e9 + float(each) for each in level(media)]


def by_prompt(media: Media, prompts: Sequence[Prompt]) -> list[float]:
    return [float(prompt.text == "a") for prompt in prompts]


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (constant, "reward 'mine' gave all 8 samples of the dry run 0.35, and from such groups nothing can be learned"),
        (nearly_constant, "which is the rounding of float32: nothing else would be learned"),
        (
            large_offset,
            "lies near 1.7e+09 and differs within groups by 13 only: statistics are float64 here and keep that",
        ),
        (by_prompt, "gave all samples of a prompt the same, in each of 2 groups"),
    ],
)
def test_each_fault_has_its_sentence(reward: Any, said: str) -> None:
    assert said in seen(reward).notice


@pytest.mark.parametrize(("high", "low", "said"), [(1.0, -9.0, "the highest"), (9.0, 1.0, "the lowest")])
def test_a_crowded_end_of_the_range(high: float, low: float, said: str) -> None:
    """All but one of sixteen have the end's score."""

    @declare(RewardSpec("mine", "ends", low=low, high=high))
    def ends(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        return torch.where(level(media) > 5, 1.0, 5.0 if low == 1.0 else -5.0)

    red = RED.clone()
    assert seen(ends, red).notice.startswith("reward 'mine' gave all 8 samples of the dry run 1,")
    red[0] = 2
    found = seen(ends, red)
    assert (found.best if high == 1.0 else found.worst) == 7 / 8 and said not in found.notice


def test_one_that_is_elsewhere_is_asked_once() -> None:
    asked = []

    @declare(RewardSpec("mine", "far away", elsewhere=True))
    def far(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        asked.append(len(prompts))
        return level(media)

    found = seen(far)
    assert asked == [8] and found.again is None and "asked once, for it is elsewhere" in str(found)


def test_shaken_levels_move_by_one_at_most() -> None:
    media = Images(torch.tensor([0, 128, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 8, 8).contiguous())
    moved = shaken(media, Rng((1,)))
    change = moved.values.int() - media.values.int()  # type: ignore[attr-defined]
    assert change.abs().max() == 1 and change[1].unique().tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("total", "told"), [([1.0] * 4 + [2.0] * 4, True), ([1.0] * 7 + [2.0], False), ([math.nan] * 8, False)]
)
def test_a_whole_that_is_constant_though_its_judges_are_not(total: list[float], told: bool) -> None:
    """As 0 * judge is, or judge - judge; samples that count for nothing are not looked at."""
    rollout = Rollout([Prompt("a"), Prompt("b")], GROUP, GROUP, {}, torch.zeros(8, 1), None, torch.arange(8), 0)
    totals = torch.tensor(total, dtype=torch.float64)
    said = level_notice(Scored(rollout, {"mine": RED.double()}, totals.isfinite(), totals))
    assert said.startswith("the reward as a whole gave all samples of a prompt the same, in each of 2") == told
