from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.errors import UserError
from limner.core.rng import Rng
from limner.core.team import ALONE, Team
from limner.core.tree import leaves
from limner.core.types import Condition, Decisions, Prompt, Rollout, Sampled, Trajectory
from limner.rollout.collect import EncodeCache, collect
from limner.rollout.kept import Kept

SHAPES: list[tuple[int, ...]] = [(), (4,), (2, 3), (2, 3, 3)]
PROMPTS = [Prompt("a", {"n": 1}), Prompt("bb"), Prompt("a", {"n": 1}), Prompt("a", {"n": 2}), Prompt("ccc")]


@dataclass
class Encoder:
    """Encodes a text as its length, in a tree of two tensors; counts."""

    seen: list[str] = field(default_factory=list)

    def __call__(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        self.seen += [prompt.text for prompt in prompts]
        length = torch.tensor([float(len(prompt.text)) for prompt in prompts] + [0.0])
        return {"pooled": length, "tokens": length[:, None].expand(-1, 3) * torch.arange(3.0)}


@dataclass(frozen=True)
class Steps:
    x: Tensor
    choices: Tensor


@dataclass(frozen=True)
class Walk:
    """x <- x + noise + condition, two decisions; noise from (rng, id), a shift from (rng, group)."""

    shape: tuple[int, ...]

    def sample(
        self, condition: dict[str, Tensor], prompt_index: Tensor, group: Tensor, id: Tensor, *, rng: Rng, record: bool
    ) -> Sampled:
        row = (-1, *(1,) * len(self.shape))
        noise = rng.child("noise").normal(id, (3, *self.shape))
        shift = rng.child("shift").uniform(group, ()).view(row) + condition["pooled"][prompt_index].view(row)
        means = [noise[:, 0] + shift]
        choices = [means[0] + noise[:, 1]]
        means.append(choices[0] + shift)
        choices.append(means[1] + noise[:, 2])
        old = {"mean": torch.stack(means, 1), "std": torch.ones(len(id), 2)}
        states = Steps(torch.stack([noise[:, 0], choices[0]], 1), torch.stack(choices, 1))
        mask, node = torch.ones(len(id), 2, dtype=torch.bool), torch.arange(2).expand(len(id), -1)
        path = Trajectory(states, torch.full((len(id), 2), 0.5), old, mask, node)
        return Sampled(choices[1], path if record else None)

    def distribution(self, decisions: Decisions, condition: Condition) -> Any:
        raise AssertionError("collecting only samples")

    def pack(self, rollout: Rollout, rows: Tensor, size: int) -> Iterator[Decisions]:
        raise AssertionError("collecting only samples")

    def elements(self) -> int:
        raise AssertionError("collecting only samples")


def draw(
    shape: tuple[int, ...] = (4,), step: int = 0, record: bool = True, micro_batch: int = 100, team: Team = ALONE
) -> Rollout:
    policy, cache = Walk(shape), EncodeCache(Encoder())
    rng = Rng((0, "rollout"))
    return collect(policy, cache, PROMPTS, 3, rng=rng, step=step, record=record, micro_batch=micro_batch, team=team)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("micro_batch", [1, 4, 15])
def test_the_result_does_not_depend_on_the_micro_batch(shape: tuple[int, ...], micro_batch: int) -> None:
    whole, parts = draw(shape), draw(shape, micro_batch=micro_batch)
    assert whole.sample.shape == (15, *shape)
    pairs = list(zip(leaves(whole), leaves(parts), strict=True))
    assert len(pairs) == 13 and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shares_of_a_team_are_the_samples_of_one(size: int) -> None:
    """Whole groups, in order, with the same groups, ids, prompts and bits as one process would draw."""
    one = draw()
    parts = [draw(team=Team(torch.device("cpu"), rank, size)) for rank in range(size)]
    for name in ("group", "id", "sample"):
        assert torch.equal(torch.cat([vars(part)[name] for part in parts]), vars(one)[name])
    assert [prompt for part in parts for prompt in part.prompt_of()] == one.prompt_of()


def test_samples_are_laid_out_by_prompt_and_named_uniquely_in_a_run() -> None:
    rollouts = [draw(step=step) for step in range(3)]
    assert rollouts[0].prompt_index.tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [2] * 3 + [3] * 3
    assert rollouts[0].prompt_of()[::3] == PROMPTS
    assert torch.cat([r.id for r in rollouts]).tolist() == list(range(45))
    assert torch.cat([r.group for r in rollouts]).tolist() == [g for g in range(15) for _ in range(3)]
    assert [r.version for r in rollouts] == [0, 1, 2]
    assert len({round(x, 6) for r in rollouts for x in r.sample[:, 0].tolist()}) == 45


def test_condition_has_a_row_for_each_unique_prompt_and_the_empty_one_last() -> None:
    rollout = draw()
    assert list(rollout.prompts) == [PROMPTS[0], PROMPTS[1], PROMPTS[3], PROMPTS[4]]
    assert rollout.condition["pooled"].tolist() == [1.0, 2.0, 1.0, 3.0, 0.0]
    assert rollout.condition["tokens"].shape == (5, 3)


def test_equal_prompts_share_a_row_and_not_a_group() -> None:
    rollout = draw()
    assert rollout.prompt_index[0] == rollout.prompt_index[6] and rollout.group[0] != rollout.group[6]
    assert not torch.equal(rollout.sample[0:3], rollout.sample[6:9])


def test_what_is_recorded_is_what_was_drawn() -> None:
    rollout = draw((2, 3))
    path = rollout.trajectory
    assert path is not None and path.length.shape == (15, 2)
    assert torch.equal(path.choices[:, -1], rollout.sample) and torch.equal(path.choices[:, 0], path.states.x[:, 1])


def test_no_path_unless_asked() -> None:
    rollout = draw(record=False, micro_batch=4)
    assert rollout.trajectory is None and torch.equal(rollout.sample, draw().sample)


def test_nothing_drawn_carries_a_gradient() -> None:
    weight = torch.ones((), requires_grad=True)

    def encode(prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        return {name: value * weight for name, value in Encoder()(prompts).items()}

    rollout = collect(Walk((4,)), EncodeCache(encode), PROMPTS, 2, rng=Rng((0,)), step=0, record=True, micro_batch=3)
    assert not any(leaf.requires_grad for leaf in leaves(rollout))


def test_what_is_asked_is_encoded_once_and_by_itself() -> None:
    """Prompts that differ in what judges know are one for a generator."""
    encoder = Encoder()
    cache = EncodeCache(encoder)
    first = cache.condition(PROMPTS)
    assert encoder.seen == ["a", "bb", "ccc"]
    assert all(torch.equal(x, y) for x, y in zip(leaves(first), leaves(cache.condition(PROMPTS)), strict=True))
    assert cache.condition([Prompt("ccc"), Prompt("dddd")])["pooled"].tolist() == [3.0, 4.0, 0.0]
    assert encoder.seen == ["a", "bb", "ccc", "dddd"]


def test_prompts_are_encoded_in_a_context_that_is_entered_only_for_them() -> None:
    visits: list[list[str]] = []
    encoder = Encoder()

    @contextmanager
    def encoding() -> Iterator[None]:
        start = len(encoder.seen)
        yield
        visits.append(encoder.seen[start:])

    cache = EncodeCache(encoder, encoding=encoding)
    for prompts in (PROMPTS, PROMPTS[1:], [Prompt("bb"), Prompt("e")]):
        cache.condition(prompts)
    assert visits == [["a", "bb", "ccc"], ["e"]]


def test_a_full_cache_forgets_the_oldest_and_answers_the_same() -> None:
    encoder = Encoder()
    cache = EncodeCache(encoder, max_bytes=2 * 16)  # two rows of four float32
    expected = EncodeCache(Encoder()).condition(PROMPTS)
    assert all(torch.equal(x, y) for x, y in zip(leaves(cache.condition(PROMPTS)), leaves(expected), strict=True))
    cache.condition([Prompt("bb"), Prompt("ccc")])
    assert encoder.seen == ["a", "bb", "ccc"]
    assert cache.condition([Prompt("a")])["pooled"].tolist() == [1.0, 0.0]
    assert encoder.seen == ["a", "bb", "ccc", "a"]


def test_what_was_encoded_once_is_read_from_disk(tmp_path: Path) -> None:
    """By another cache too, to the bit; by what encodes it; and a damaged file is encoded again."""
    first, second, third = Encoder(), Encoder(), Encoder()
    folder = tmp_path / "kept"

    def cache(encoder: Encoder, identity: str) -> EncodeCache:
        return EncodeCache(encoder, kept=Kept(folder, identity, torch.device("cpu")))

    expected = cache(first, "one").condition(PROMPTS)
    found = cache(second, "one").condition(PROMPTS)
    assert first.seen == ["a", "bb", "ccc"] and not second.seen
    assert all(torch.equal(a, b) for a, b in zip(leaves(found), leaves(expected), strict=True))
    cache(second, "two").condition(PROMPTS)
    assert second.seen == ["a", "bb", "ccc"]
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    again = cache(third, "one").condition(PROMPTS)
    assert third.seen == ["a", "bb", "ccc"]
    assert all(torch.equal(a, b) for a, b in zip(leaves(again), leaves(expected), strict=True))
    third.seen.clear()
    cache(third, "one").condition(PROMPTS)
    assert not third.seen


def test_another_picture_of_the_same_name_is_encoded_anew(tmp_path: Path) -> None:
    encoder, picture = Encoder(), tmp_path / "first.png"
    asked = [Prompt("a", inputs={"image": str(picture)})]
    for content in (b"one", b"one", b"two"):
        picture.write_bytes(content)
        EncodeCache(encoder, kept=Kept(tmp_path / "kept", "", torch.device("cpu"))).condition(asked)
    assert encoder.seen == ["a", "a"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = EncodeCache(Encoder(), kept=Kept(tmp_path / "file" / "kept", "one", torch.device("cpu")))
    with pytest.raises(UserError, match="prompt_cache .* name another folder"):
        cache.condition(PROMPTS)
