import pytest

from limner.core.errors import UserError
from limner.data.sampler import PromptSampler


def draws(sampler: PromptSampler, steps: int) -> list[int]:
    return [i for step in range(steps) for i in sampler.indices(step).tolist()]


@pytest.mark.parametrize("per_step", [1, 4, 5, 12, 30])
def test_every_prompt_once_an_epoch_in_a_new_order(per_step: int) -> None:
    stream = draws(PromptSampler(num_prompts=12, per_step=per_step, seed=0), steps=60)
    epochs = [stream[i : i + 12] for i in range(0, len(stream) - 11, 12)]
    assert len(epochs) >= 5
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_the_stream_does_not_depend_on_how_it_is_cut() -> None:
    assert draws(PromptSampler(7, 3, 1), 14) == draws(PromptSampler(7, 2, 1), 21)


def test_a_step_depends_on_seed_and_step_alone() -> None:
    uninterrupted = [PromptSampler(10, 4, 3).indices(step).tolist() for step in range(20)]
    assert [PromptSampler(10, 4, 3).indices(step).tolist() for step in reversed(range(20))] == uninterrupted[::-1]
    assert PromptSampler(10, 4, 4).indices(0).tolist() != uninterrupted[0]


def test_one_prompt_can_fill_a_step() -> None:
    assert PromptSampler(1, 4, 0).indices(5).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("num_prompts", "per_step"), [(0, 1), (3, 0)])
def test_bad_input(num_prompts: int, per_step: int) -> None:
    with pytest.raises(UserError, match=f"got {num_prompts} prompts and {per_step} a step"):
        PromptSampler(num_prompts, per_step, 0)
