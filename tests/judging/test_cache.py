import dataclasses
import json
import math
import multiprocessing
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.errors import JudgeFailure, UserError
from limner.core.media import Images, Media
from limner.core.types import Prompt, RewardOutput
from limner.judging.cache import Cached, keys
from limner.judging.checked import Checked

PIXELS = torch.rand(4, 3, 6, 4, generator=torch.Generator().manual_seed(5))
MEDIA = Images(PIXELS)
PROMPTS = [Prompt("a", {"n": [1, 2]}), Prompt("b"), Prompt("c"), Prompt("d")]


@dataclass
class Counting:
    """A judge with everything to say; refuses brightness over `limit`, and remembers how many it was shown."""

    limit: float = math.inf
    shown: list[int] = field(default_factory=list)

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        self.shown.append(len(media))
        light = media.rounded().frames().mean((1, 2, 3, 4))
        parts = {"double": 2 * light, "odd": torch.full_like(light, torch.inf)}
        maps = {"where": media.rounded().frames()[:, 0, 0]}
        texts = [prompt.text for prompt in prompts]
        return RewardOutput(light, light <= self.limit, parts, light / 3, texts, maps)


def equal(a: RewardOutput, b: RewardOutput) -> None:
    """Fail unless two answers are equal to the bit, NaN where NaN."""
    assert torch.equal(a.score.nan_to_num(9e9), b.score.nan_to_num(9e9)) and torch.equal(a.valid, b.valid)
    assert a.uncertainty is not None and b.uncertainty is not None and torch.equal(a.uncertainty, b.uncertainty)
    assert list(a.components) == list(b.components) and torch.equal(a.components["double"], b.components["double"])
    assert a.components["odd"].isnan().all() and not b.components["odd"].isfinite().any()
    assert list(a.explanation) == list(b.explanation) and torch.equal(a.maps["where"], b.maps["where"])


def test_a_hit_says_what_the_judge_said_and_does_not_ask_it(tmp_path: Path) -> None:
    judge = Counting()
    cache = Cached("light", judge, tmp_path, "v1")
    first, second = cache(MEDIA, PROMPTS), cache(MEDIA, PROMPTS)
    equal(first, second)
    assert judge.shown == [4] and torch.equal(first.score, judge(MEDIA, PROMPTS).score)
    order = torch.tensor([2, 0])
    some = Cached("light", Counting(), tmp_path, "v1")(Images(PIXELS[order]), [PROMPTS[2], PROMPTS[0]])
    assert torch.equal(some.score, first.score[order]) and some.explanation == ("c", "a")


def test_only_what_is_new_is_asked_and_order_is_kept(tmp_path: Path) -> None:
    judge = Counting()
    cache = Cached("light", judge, tmp_path, "v1")
    cache(Images(PIXELS[1:3]), PROMPTS[1:3])
    equal(cache(MEDIA, PROMPTS), Counting()(MEDIA, PROMPTS))
    assert judge.shown == [2, 2]


CHANGES: dict[str, Any] = {
    "text": (MEDIA, [dataclasses.replace(prompt, text=prompt.text + " ") for prompt in PROMPTS], "v1"),
    "meta": (MEDIA, [dataclasses.replace(prompt, meta={"n": [1, 3]}) for prompt in PROMPTS], "v1"),
    "text into meta": (MEDIA, [Prompt("", {"text": prompt.text}) for prompt in PROMPTS], "v1"),
    "shape": (Images(PIXELS.reshape(4, 3, 4, 6)), PROMPTS, "v1"),
    "a pixel": (Images(PIXELS - torch.eye(4)[None, None, [0, 1, 2, 3, 0, 1]] / 255), PROMPTS, "v1"),
    "version": (MEDIA, PROMPTS, "v2"),
    "prompts exchanged": (MEDIA, PROMPTS[::-1], "v1"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_part_of_the_key_counts(tmp_path: Path, change: str) -> None:
    Cached("light", Counting(), tmp_path, "v1")(MEDIA, PROMPTS)
    judge = Counting()
    media, prompts, identity = CHANGES[change]
    Cached("light", judge, tmp_path, identity)(media, prompts)
    assert judge.shown == [4]


def test_what_a_judge_does_not_see_does_not_count(tmp_path: Path) -> None:
    """Not the name, not differences within an 8-bit level, not the order of a meta's keys."""
    prompts = [Prompt("a", {"x": 1, "y": 2})] * 4
    Cached("light", Counting(), tmp_path, "v1")(MEDIA.rounded(), prompts)
    judge = Counting()
    finer = Images(MEDIA.rounded().pixels.double() + 0.4 / 255)
    Cached("other", judge, tmp_path, "v1")(finer, [Prompt("a", {"y": 2, "x": 1})] * 4)
    assert judge.shown == []


def test_media_of_another_kind_or_with_other_numbers_are_others() -> None:
    @dataclass(frozen=True)
    class Clips:
        pixels: Tensor
        fps: int

        def frames(self) -> Tensor:
            return self.pixels

        def rounded(self) -> "Clips":
            return self

        def __len__(self) -> int:
            return len(self.pixels)

    rounded = MEDIA.rounded().pixels
    media = [MEDIA, Clips(rounded, 8), Clips(rounded, 16), Clips(rounded.half(), 8), Clips(rounded[:, :, None], 8)]
    assert len({key for each in media for key in keys(each, PROMPTS, "v1")}) == 20


def test_parts_of_a_key_do_not_run_into_one_another() -> None:
    one, other = keys(MEDIA, PROMPTS, "v1"), keys(MEDIA, PROMPTS, "v1" + '["')
    assert not set(one) & set(other) and len(one[0]) == 32 and one == keys(MEDIA.rounded(), PROMPTS, "v1")


def test_failures_are_asked_again(tmp_path: Path) -> None:
    light = MEDIA.rounded().frames().mean((1, 2, 3, 4))
    judge = Counting(limit=float(light.median()))
    cache = Cached("light", judge, tmp_path, "v1")
    first = cache(MEDIA, PROMPTS)
    assert torch.equal(first.valid, light <= judge.limit) and first.valid.sum() == 2
    judge.limit = math.inf
    second = cache(MEDIA, PROMPTS)
    assert second.valid.all() and judge.shown == [4, 2] and torch.equal(second.score, light)


def test_a_judge_that_fails_altogether_leaves_nothing_behind(tmp_path: Path) -> None:
    def down(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        raise JudgeFailure("away")

    cache = Cached("mine", Checked("mine", down), tmp_path, "v1")
    assert not cache(MEDIA, PROMPTS).valid.any() and not cache(MEDIA, PROMPTS).valid.any()
    with closing(sqlite3.connect(tmp_path / "rewards.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_who_looks_in_finds_names_and_json(tmp_path: Path) -> None:
    Cached("light", Counting(), tmp_path / "new" / "folder", "v1")(Images(PIXELS[:1]), PROMPTS[:1])
    with closing(sqlite3.connect(tmp_path / "new" / "folder" / "rewards.sqlite")) as database:
        ((key, name, answer),) = database.execute("SELECT * FROM answers").fetchall()
    row = json.loads(answer)
    assert len(key) == 32 and name == "light" and row["explanation"] == "a" and row["components"]["odd"] is None


def test_more_samples_than_a_query_takes(tmp_path: Path) -> None:
    media = Images(torch.rand(1201, 3, 1, 1, generator=torch.Generator().manual_seed(6)))
    prompts, judge = [Prompt(str(i)) for i in range(1201)], Counting()
    cache = Cached("light", judge, tmp_path, "v1")
    equal(cache(media, prompts), cache(media, prompts))
    assert judge.shown == [1201]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "rewards.sqlite").write_bytes(b"not a database, and longer than its header would be" * 10)
    with pytest.raises(UserError, match=r"reward cache .*rewards.sqlite: .*; delete the file, or name another folder"):
        Cached("light", Counting(), tmp_path, "v1")(MEDIA, PROMPTS)


def write(folder: Path) -> None:
    """Ask about 40 batches of 4 grey pictures, each of which shares 2 with the next."""

    def judge(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        light = media.frames()[:, 0, 0, 0, 0]
        return RewardOutput(light, torch.ones(len(light), dtype=torch.bool))

    cache = Cached("light", judge, folder, "v1")
    for i in range(40):
        shade = ((torch.arange(4) + 2 * i) / 255).view(4, 1, 1, 1).expand(4, 3, 2, 2)
        assert torch.equal(cache(Images(shade), [Prompt("p")] * 4).score, shade[:, 0, 0, 0])


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=write, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    with closing(sqlite3.connect(tmp_path / "rewards.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (82,)


def test_a_file_that_is_compared_with_counts_with_what_is_in_it(tmp_path: Path) -> None:
    """Under the same name another clip is another question; where it lies is part of the prompt."""
    file = tmp_path / "right.webp"
    prompts = [Prompt("a", {"reference": str(file)}), Prompt("a", {"reference": "a cat"})]
    file.write_bytes(b"one")
    first, again = (keys(Images(PIXELS[:2]), prompts, "v1") for _ in range(2))
    file.write_bytes(b"two")
    second = keys(Images(PIXELS[:2]), prompts, "v1")
    assert first == again and first[0] != second[0] and first[1] == second[1]
