from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from limner.core.errors import UserError
from limner.core.media import Images, Media
from limner.core.types import Prompt, RewardOutput
from limner.evaluate.protocol import Evaluation, compare, compare_diversity, evaluate, rows
from limner.evaluate.selection import galleries
from limner.judging.checked import Checked

PROMPTS = [Prompt(f"prompt {i}", {"number": i, "category": "even" if i % 2 == 0 else "odd"}) for i in range(6)]
SEEDS = (10, 11, 12)


def draw(prompts: Sequence[Prompt], seeds: Sequence[int]) -> Images:
    """A flat picture whose red says which prompt, whose green says which seed."""
    pixels = torch.zeros(len(prompts), 3, 8, 8)
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        pixels[i, 0], pixels[i, 1] = prompt.meta["number"] / 10, seed / 100
    return Images(pixels)


red = Checked("red", lambda media, prompts: media.frames()[:, 0, 0, 0, 0])


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_every_prompt_at_every_seed(batch: int) -> None:
    heard: list[float] = []
    found = evaluate(draw, PROMPTS, red, SEEDS, batch=batch, tick=heard.append)
    expected = (torch.arange(6) / 10 * 255).round() / 255
    assert torch.equal(found.reward, expected[:, None].expand(6, 3))
    assert found.stills.shape == (6, 3, 3, 8, 8) and found.stills.dtype == torch.uint8
    assert found.stills[2, :, 1, 0, 0].tolist() == [round(2.55 * s) for s in SEEDS]
    assert heard[-1] == 1.0 and heard == sorted(heard) and len(heard) == math.ceil(18 / batch)
    assert found.kind == "number" and found.invalid == 0


def test_a_prompt_that_is_asked_again_is_drawn_anew_and_is_one_prompt() -> None:
    """Its seeds go on, so that no sample is drawn twice, and no interval takes it for another prompt."""
    found = evaluate(draw, [PROMPTS[1], PROMPTS[2], PROMPTS[1]], red, SEEDS)
    assert found.stills[:, :, 1, 0, 0].tolist() == [
        [round(2.55 * seed) for seed in seeds] for seeds in (SEEDS, SEEDS, (13, 14, 15))
    ]
    assert found.summary()["overall"].n == found.diversity().n == compare(found, found)["overall"].n == 2


def test_summary_by_category() -> None:
    summary = evaluate(draw, PROMPTS, red, SEEDS).summary()
    assert list(summary) == ["overall", "even", "odd"]
    assert [summary[name].value for name in summary] == pytest.approx([0.25, 0.2, 0.3], abs=1 / 255)
    assert [summary[name].n for name in summary] == [6, 3, 3]
    assert list(evaluate(draw, [Prompt("plain", {"number": 1})], red, SEEDS).summary()) == ["overall"]


def test_invalid_samples_are_left_out_and_counted() -> None:
    def judge(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        number = torch.tensor([float(p.meta["number"]) for p in prompts])
        return RewardOutput((number > 2).float(), number != 5)

    def nan(media: Media, prompts: Sequence[Prompt]) -> torch.Tensor:
        number = torch.tensor([float(p.meta["number"]) for p in prompts])
        return torch.where(number == 5, math.nan, (number > 2).float())

    for reward in (judge, nan):
        found = evaluate(draw, PROMPTS, Checked("mine", reward), SEEDS)
        assert found.invalid == 3 and found.kind == "rate"
        assert found.reward[5].isnan().all()
        overall = found.summary()["overall"]
        assert (overall.value, overall.n) == (pytest.approx(2 / 5), 5)


def test_pictures_that_are_not_finite_are_not_shown_to_the_judge() -> None:
    def broken(prompts: Sequence[Prompt], seeds: Sequence[int]) -> Images:
        pixels = draw(prompts, seeds).pixels
        pixels[[p.meta["number"] == 3 for p in prompts]] = math.nan
        return Images(pixels)

    def judge(media: Media, prompts: Sequence[Prompt]) -> torch.Tensor:
        assert media.frames().isfinite().all() and all(p.meta["number"] != 3 for p in prompts)
        return torch.ones(len(prompts))

    found = evaluate(broken, PROMPTS, Checked("mine", judge), SEEDS, batch=4)
    assert found.valid.sum(1).tolist() == [3, 3, 3, 0, 3, 3]


def test_wrong_shape_and_nothing_to_draw_are_refused() -> None:
    with pytest.raises(UserError, match=r"expected one number a sample, shape \(18,\), got float32 of shape"):
        evaluate(draw, PROMPTS, Checked("odd", lambda media, prompts: torch.zeros(len(prompts), 2)), SEEDS)
    with pytest.raises(UserError, match="got 0 prompts"):
        evaluate(draw, [], red, SEEDS)


def made(reward: list[list[float]]) -> Evaluation:
    values = torch.tensor(reward, dtype=torch.float32)
    pictures = (values.nan_to_num(0.5)[:, :, None, None, None] * 255).byte().expand(*values.shape, 3, 8, 8)
    prompts = [Prompt(f"prompt {i}", {"category": "ab"[i % 2]}) for i in range(len(reward))]
    return Evaluation(prompts, range(values.shape[1]), values, values.isfinite(), pictures)


BEFORE = made([[0, 0], [0, 1], [1, 1], [0, math.nan], [0, 0]])
AFTER = made([[1, 0], [1, 1], [0, 1], [1, 1], [1, 1]])


def test_compare_counts_cells_judged_both_times() -> None:
    found = compare(BEFORE, AFTER)
    assert found["overall"].value == pytest.approx((0.5 + 0.5 - 0.5 + 1 + 1) / 5)
    assert found["a"].value == pytest.approx((0.5 - 0.5 + 1) / 3)
    assert found["b"].n == 2
    other = made([[0, 0]] * 5)
    with pytest.raises(ValueError, match="same prompts"):
        compare(BEFORE, Evaluation(other.prompts, (7, 8), other.reward, other.valid, other.stills))


def test_rows_of_the_report() -> None:
    main, categories = rows(BEFORE, AFTER, "Held-out accuracy")
    assert main.kind == "rate" and [row.label for row in categories] == ["a", "b"]
    assert main.before is not None and main.before.value == pytest.approx((0 + 0.5 + 1 + 0 + 0) / 5)
    assert main.after is not None and main.after.value == pytest.approx((0.5 + 1 + 0.5 + 1 + 1) / 5)


def test_diversity_before_and_after() -> None:
    row = compare_diversity(BEFORE, AFTER)
    assert row.before is not None and row.after is not None and row.change is not None
    assert row.after.value == pytest.approx(2 / 5)
    assert row.change.value == pytest.approx(row.after.value - row.before.value)


def test_galleries_show_gains_losses_and_an_unbiased_draw() -> None:
    best, worst, random = galleries(BEFORE, AFTER, size=3)
    assert [pair.prompt for pair in best.pairs][0] == "prompt 4"
    assert len({pair.prompt for pair in best.pairs}) == 3
    assert all(pair.before_reward == 0 and pair.after_reward == 1 for pair in best.pairs)
    assert "3 of 5 pairs that improved" in best.note
    assert [(pair.prompt, pair.seed) for pair in worst.pairs] == [("prompt 2", 0)]
    assert "1 of 1 pairs that got worse" in worst.note
    assert len(random.pairs) == 3 and "3 of all 10 pairs, 1 of which could not be judged" in random.note
    assert galleries(BEFORE, AFTER, size=3)[2].pairs[0].prompt == random.pairs[0].prompt


def test_random_gallery_is_uniform_over_all_pairs() -> None:
    counts = torch.zeros(5, 2)
    for seed in range(2000):
        pair = galleries(BEFORE, AFTER, size=1, seed=seed)[2].pairs[0]
        counts[int(pair.prompt.split()[1]), pair.seed] += 1
    # Chi-square with 9 degrees of freedom: 27.9 is its 0.999 quantile.
    assert ((counts - 200) ** 2 / 200).sum().item() < 27.9
