import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from limner.core.errors import RunError
from limner.core.media import Images, Media, Shown
from limner.core.types import Prompt, RewardOutput, Rollout, Scored
from limner.judging.checked import Checked
from limner.rewards.algebra.compose import Composition, Judge
from limner.rewards.algebra.tree import leaf
from limner.rollout.score import FailureBudget, judge, render

BATCH = 6


def rollout() -> Rollout:
    """Return six samples of two prompts; sample i shows brightness 0.1 i + 0.0003."""
    index = torch.tensor([0, 0, 0, 1, 1, 1])
    level = torch.arange(BATCH) / 10 + 0.0003
    return Rollout(
        prompts=[Prompt("a", {"bonus": 0}), Prompt("b", {"bonus": 10})],
        group=index,
        prompt_index=index,
        condition=torch.zeros(3),
        sample=level,
        trajectory=None,
        id=torch.arange(BATCH),
        version=0,
    )


def decode(sample: Tensor) -> Images:
    return Images(sample.view(-1, 1, 1, 1).expand(-1, 3, 2, 2))


def brightness(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return brightness + the prompt's bonus; refuses a brightness between 0.25 and 0.35."""
    light = media.frames().mean((1, 2, 3, 4))
    bonus = torch.tensor([float(prompt.meta["bonus"]) for prompt in prompts])
    valid = (light < 0.25) | (light > 0.35)
    return RewardOutput(light + bonus, valid, {"light": light, "bonus": bonus})


def score(rollout: Rollout, reward: Judge, micro_batch: int) -> tuple[Scored, Shown]:
    seen = render(rollout.sample, decode, micro_batch)
    return judge(rollout, seen, alone(reward), micro_batch), seen


def alone(reward: Judge) -> Composition:
    return Composition(leaf("r"), {leaf("r"): reward})


@pytest.mark.parametrize("micro_batch", [1, 4, 100])
def test_samples_are_judged_with_their_prompts_in_any_micro_batch(micro_batch: int) -> None:
    scored, seen = score(rollout(), brightness, micro_batch)
    light = torch.tensor([0, 26, 51, 77, 102, 128]).double() / 255
    assert torch.allclose(scored.rewards["r/light"], light, atol=1e-6)
    assert scored.rewards["r/bonus"].tolist() == [0.0, 0.0, 0.0, 10.0, 10.0, 10.0]
    assert scored.valid.tolist() == [True, True, True, False, True, True]
    assert scored.total.isnan().tolist() == [False, False, False, True, False, False]
    total = (light + scored.rewards["r/bonus"])[scored.valid]
    assert torch.allclose(scored.total[scored.valid], total, atol=1e-6)
    assert torch.equal(seen.media.frames(), decode(rollout().sample).rounded().frames()) and seen.finite.all()


def test_no_digit_of_a_score_is_lost_on_the_way_to_the_total() -> None:
    """Numbers near 1.7e9 that differ by 1, as a list of Python's own numbers."""

    def large(media: Media, prompts: Sequence[Prompt]) -> list[float]:
        return [1.7e9 + round(255 * x) for x in media.frames().mean((1, 2, 3, 4)).tolist()]

    scored, _ = score(rollout(), Checked("r", large), 4)
    assert [x - 1.7e9 for x in scored.total.tolist()] == [0, 26, 51, 77, 102, 128]
    assert scored.total.dtype == torch.float64 == scored.rewards["r"].dtype


def test_pictures_are_eight_bit_whatever_the_decoder_returns() -> None:
    pixels = render(torch.tensor([-0.3, 0.12, 7.0]).bfloat16(), decode, 2).media.frames()[:, 0]
    assert pixels.dtype == torch.float32 and pixels.device.type == "cpu"
    assert torch.equal((pixels * 255).round() / 255, pixels)
    assert (pixels[:, 0, 0, 0] * 255).round().tolist() == [0.0, 31.0, 255.0]


def test_pictures_that_are_not_finite_are_never_shown_to_the_judge() -> None:
    broken = rollout()
    broken = dataclasses.replace(broken, sample=broken.sample.clone().index_fill_(0, torch.tensor([1, 4]), math.nan))
    seen: list[int] = []

    def strict(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        assert media.frames().isfinite().all()
        seen.append(len(media))
        return brightness(media, prompts)

    scored, _ = score(broken, strict, 3)
    assert seen == [3, 1] and scored.valid.tolist() == [True, False, True, False, False, True]
    assert scored.rewards["r/bonus"].isnan().tolist() == [False, True, False, False, True, False]
    assert scored.total[0] == pytest.approx(0, abs=1e-6) and scored.total[5] == pytest.approx(10.5, abs=3e-3)


def test_infinite_scores_do_not_count() -> None:
    def steep(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        value = 1 / media.frames().mean((1, 2, 3, 4))
        return RewardOutput(value, torch.ones(len(media), dtype=torch.bool))

    scored, _ = score(rollout(), steep, 100)
    assert list(scored.rewards) == ["r"] and scored.valid.tolist() == [False] + [True] * 5
    assert scored.total[0].isnan() and scored.total[1] == pytest.approx(255 / 26, rel=1e-5)


def test_a_column_missing_from_a_batch_that_failed_is_not_judged_there() -> None:
    def flaky(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        if media.frames().mean() < 0.25:
            nothing = torch.full((len(media),), torch.nan)
            return RewardOutput(nothing, nothing.isfinite())
        ones = torch.ones(len(media))
        return RewardOutput(ones, ones.bool(), {"part": 2 * ones})

    scored = judge(rollout(), render(rollout().sample, decode, 6), alone(flaky), 3)
    assert scored.rewards["r/part"].isnan().tolist() == [True] * 3 + [False] * 3
    assert scored.valid.tolist() == [False] * 3 + [True] * 3


def scored_as(valid: list[bool], **columns: list[float]) -> Scored:
    total = torch.where(torch.tensor(valid), 1.0, torch.nan)
    rewards = {name: torch.tensor(column) for name, column in columns.items()}
    return Scored(rollout(), rewards, torch.tensor(valid), total)


def test_a_reward_that_always_fails_stops_the_run_and_is_named() -> None:
    budget = FailureBudget()
    bad = scored_as([False, False], good=[1.0, 2.0], ocr=[math.nan, math.nan])
    budget.check(bad)
    budget.check(bad)
    budget.check(scored_as([True, False], good=[1.0, 2.0], ocr=[1.0, math.nan]))
    budget.check(bad)
    budget.check(bad)
    with pytest.raises(RunError) as caught:
        budget.check(bad)
    assert str(caught.value) == (
        "no valid sample in 3 iterations in a row: reward 'ocr' judged none of the 2 samples of the last one; "
        "the last checkpoint stands"
    )


def test_the_reason_when_no_single_column_is_to_blame() -> None:
    with pytest.raises(RunError, match="each sample was refused by one of 'a', 'b'; the last"):
        FailureBudget(limit=1).check(scored_as([False, False], a=[1.0, math.nan], b=[math.nan, 1.0]))
    with pytest.raises(RunError, match="the samples themselves are not finite"):
        FailureBudget(limit=1).check(scored_as([False, False]))
