import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Images, Media, Shown
from limner.core.types import Composed, Prompt, Rollout, Scored, Term
from limner.rollout.audience import Audience, Overlap
from limner.rollout.score import judge, render

BATCH = 11


@dataclass
class Neighbours:
    """A reward in which a sample's column depends on its batch and on the calls before, and the total on the group."""

    seen: list[list[str]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    running: int = 0
    seconds: float = 0.0

    def columns(self, media: Media, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        assert self.running == 0 and not torch.is_grad_enabled()
        self.running += 1
        time.sleep(self.seconds)
        self.seen.append([prompt.text for prompt in prompts])
        self.threads.add(threading.current_thread().name)
        light = media.frames().mean((1, 2, 3, 4))
        self.running -= 1
        return {"light": light - light.mean() + len(self.seen), "size": torch.full_like(light, float(len(light)))}

    def comparisons(self, media: Media, prompts: Sequence[Prompt], group: Tensor) -> dict[str, Tensor]:
        light = media.frames().mean((1, 2, 3, 4))
        wins = [(value > light[group == g]).float().mean() for value, g in zip(light, group, strict=True)]
        return {"wins": torch.stack(wins)}

    def total(
        self, columns: Mapping[str, Tensor], group: Tensor, step: int = 0, memory: dict[str, Any] | None = None
    ) -> Composed:
        value = columns["light"] + columns["wins"] + group + step + (memory or {}).get("bias", 0.0)
        return Composed(value, value.isfinite(), {"light": Term(1.0, value)})


def rollout(broken: Sequence[int]) -> Rollout:
    index = torch.arange(BATCH) // 4
    sample = (torch.arange(BATCH) / 20).index_fill(0, torch.tensor(broken, dtype=torch.long), math.nan)
    prompts = [Prompt("a"), Prompt("b"), Prompt("c")]
    return Rollout(prompts, index, index, torch.zeros(4), sample, None, torch.arange(BATCH), 5)


def decode(sample: Tensor) -> Images:
    return Images(sample.view(-1, 1, 1, 1).expand(-1, 3, 2, 2))


BOTH, JUDGES = Overlap(True, True), Overlap(True, False)


def audience(reward: Neighbours, micro_batch: int, overlap: Overlap = BOTH) -> Audience:
    return Audience(reward, decode, micro_batch, overlap)


def shown(drawn: Rollout, reward: Neighbours, micro_batch: int, overlap: Overlap = BOTH) -> tuple[Scored, Shown]:
    """Roll out as the loop does: show a micro-batch, draw the next."""
    prompts = drawn.prompt_of()
    with audience(reward, micro_batch, overlap) as seats:
        for rows in torch.arange(BATCH).split(micro_batch):
            seats.show(drawn.sample[rows], [prompts[i] for i in rows.tolist()])
        return judge(drawn, seats.seen, seats, micro_batch, {"bias": 0.25}), seats.seen


@pytest.mark.parametrize("broken", [[], [0], [3, 4, 10], list(range(BATCH))])
@pytest.mark.parametrize("micro_batch", [1, 3, 4, 100])
@pytest.mark.parametrize("overlap", [Overlap(), JUDGES, Overlap(False, True), BOTH])
def test_the_outcome_is_the_plain_one_to_the_bit(overlap: Overlap, micro_batch: int, broken: list[int]) -> None:
    drawn, plain, ahead = rollout(broken), Neighbours(), Neighbours()
    seen = render(drawn.sample, decode, micro_batch)
    expected = judge(drawn, seen, plain, micro_batch, {"bias": 0.25})
    got, kept = shown(drawn, ahead, micro_batch, overlap)
    assert ahead.seen == plain.seen and torch.equal(got.valid, expected.valid)
    assert torch.equal(got.total.nan_to_num(9e9), expected.total.nan_to_num(9e9))
    assert got.rewards.keys() == expected.rewards.keys() and got.terms.keys() == expected.terms.keys()
    for name, column in expected.rewards.items():
        assert torch.equal(got.rewards[name].nan_to_num(9e9), column.nan_to_num(9e9))
    assert torch.equal(kept.media.values, seen.media.values) and torch.equal(kept.finite, seen.finite)


def test_judges_work_while_others_are_drawn_one_call_at_a_time() -> None:
    reward, drawn = Neighbours(seconds=0.01), rollout([])
    with audience(reward, 2) as seats:
        seats.show(drawn.sample[:4], drawn.prompt_of()[:4])
        end = time.monotonic() + 10
        while len(reward.seen) < 2:  # nothing has been asked for yet, and the rest is still to be drawn
            assert time.monotonic() < end
        seats.show(drawn.sample[4:], drawn.prompt_of()[4:])
        judge(drawn, seats.seen, seats, 2)
    assert len(reward.seen) == 6 and len(reward.threads) == 1 and threading.current_thread().name not in reward.threads


def test_the_slowest_of_drawing_decoding_and_judging_is_what_it_takes() -> None:
    """Of 11 samples that each take 30 ms to draw, to decode and to judge, elsewhere: 11 and 2 of these, not 33."""
    drawn, each = rollout([]), 0.03

    def slow(sample: Tensor) -> Images:
        time.sleep(each)
        return decode(sample)

    def seconds(overlap: Overlap) -> tuple[float, Scored]:
        start = time.monotonic()
        with Audience(Neighbours(seconds=each), slow, 1, overlap) as seats:
            for row, prompt in enumerate(drawn.prompt_of()):
                time.sleep(each)
                seats.show(drawn.sample[row : row + 1], [prompt])
            found = judge(drawn, seats.seen, seats, 1)
        return time.monotonic() - start, found

    (alone, expected), (judged, _), (both, got) = (seconds(overlap) for overlap in (Overlap(), JUDGES, BOTH))
    assert torch.equal(got.total, expected.total)
    assert alone > 33 * each and both < 0.7 * judged < 0.6 * alone


def test_one_micro_batch_waits_to_be_decoded_at_most() -> None:
    begun, done = [0], threading.Semaphore(0)

    def waiting(sample: Tensor) -> Images:
        begun[0] += 1
        done.acquire()
        return decode(sample)

    drawn, shown_so_far = rollout([]), [0]
    with Audience(Neighbours(), waiting, 1, BOTH) as seats:

        def show() -> None:
            for row in range(3):
                seats.show(drawn.sample[row : row + 1], drawn.prompt_of()[row : row + 1])
                shown_so_far[0] += 1

        sampler = threading.Thread(target=show)
        sampler.start()
        time.sleep(0.1)
        assert begun[0] == shown_so_far[0] == 1
        done.release(3)
        sampler.join()
        assert shown_so_far[0] == 3 and len(seats.seen.finite) == begun[0] == 3


def test_what_decoding_raises_is_raised_when_the_next_are_shown() -> None:
    def wrong(sample: Tensor) -> Images:
        raise UserError("no autoencoder")

    drawn = rollout([])
    with Audience(Neighbours(), wrong, 2, BOTH) as seats:
        seats.show(drawn.sample[:2], drawn.prompt_of()[:2])
        with pytest.raises(UserError, match="no autoencoder"):
            seats.show(drawn.sample[2:4], drawn.prompt_of()[2:4])


def test_what_a_judge_raises_is_raised_when_its_columns_are_read() -> None:
    class Wrong(Neighbours):
        def columns(self, media: Media, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
            raise UserError("no scene")

    with pytest.raises(UserError, match="no scene"):
        shown(rollout([]), Wrong(), 2)


def test_a_sampler_that_fails_leaves_no_judge_running() -> None:
    reward, drawn = Neighbours(seconds=0.05), rollout([])
    with pytest.raises(ZeroDivisionError), audience(reward, 1) as seats:
        seats.show(drawn.sample, drawn.prompt_of())
        raise ZeroDivisionError
    asked = len(reward.seen)
    time.sleep(0.1)
    assert asked <= 1 and len(reward.seen) == asked


def test_samples_that_were_not_shown_are_not_taken_for_others() -> None:
    drawn = rollout([])
    seen = render(drawn.sample, decode, BATCH)
    for other in (None, 1 - drawn.sample):
        with audience(Neighbours(), 4) as seats, pytest.raises(ValueError, match="other samples, or in another order"):
            if other is not None:
                seats.show(other, drawn.prompt_of())
            judge(drawn, seen, seats, 4)
