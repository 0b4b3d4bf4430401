"""Plans of batches: windows, shared starts and trees, against their definitions written out sample by sample."""

from __future__ import annotations

import pytest
import torch

from limner.core.rng import Rng
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.policies.denoising import Sampler

GROUP, ID = torch.tensor([5, 5, 5, 5, 2, 2, 2, 2]), torch.tensor([20, 21, 22, 23, 8, 9, 10, 11])
RNG = Rng(("plan",))
SAMPLERS = {
    "plain": Sampler(FlowSDE(), 5),
    "ode": Sampler(EulerODE(), 5),
    "shared": Sampler(FlowSDE(), 5, shared_start=True),
    "shared ode": Sampler(EulerODE(), 5, shared_start=True),
    "window": Sampler(FlowSDE(), 5, window=2, window_range=(0, 2)),
    "shared window": Sampler(FlowSDE(), 5, window=1, window_range=(0, 3), shared_start=True),
    "tree": Sampler(FlowSDE(), 5, splits=(1, 2)),
}


def history(sampler: Sampler, group: int, id: int, decides: list[bool]) -> list[tuple[int | str, ...]]:
    """Return what has decided a sample's state before each step, by definition: where it began, and whose noise."""
    known: tuple[int | str, ...] = (group, "start") if sampler.shared_start or sampler.splits else (group, "start", id)
    found = []
    for step in range(sampler.steps):
        found.append(known)
        if decides[step]:
            later = sum(split > step for split in sampler.splits)
            known = (*known, step, id // 2**later)
    return found


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_are_one_state_where_nothing_has_told_them_apart(name: str) -> None:
    sampler = SAMPLERS[name]
    plan = sampler.plan(GROUP, ID, RNG)
    rows = zip(GROUP.tolist(), ID.tolist(), plan.decides.tolist(), strict=True)
    histories = [history(sampler, *row) for row in rows]
    for step in range(5):
        names = [each[step] for each in histories]
        first, place = plan.states(step)
        assert [names[i] for i in first.tolist()] == list(dict.fromkeys(names))
        assert [names.index(n) for n in names] == first[place].tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_equal_states_get_equal_noise_and_others_their_own(name: str) -> None:
    """Walk by adding up noise: after each step samples agree exactly where the plan says that they are one state."""
    sampler = SAMPLERS[name]
    plan = sampler.plan(GROUP, ID, RNG)
    noise = plan.noise(RNG, (3,))
    x = next(noise)
    for step, drawn in enumerate(noise):
        place = plan.states(step)[1]
        assert torch.equal((x[:, None] == x[None]).all(-1), place[:, None] == place[None])
        x = torch.where(plan.decides[:, step, None], x + drawn, x)
    assert step == 4 and len(x.unique(dim=0)) == (2 if name == "shared ode" else 8)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_plan_of_a_part_is_that_part_of_the_plan(name: str) -> None:
    rows = torch.tensor([6, 1, 3])
    whole, part = (SAMPLERS[name].plan(GROUP[r], ID[r], RNG) for r in (torch.arange(8), rows))
    assert torch.equal(whole.decides[rows], part.decides)
    for all_noise, own in zip(whole.noise(RNG, (2, 2)), part.noise(RNG, (2, 2)), strict=True):
        assert torch.equal(all_noise[rows], own)


def test_the_noise_of_a_decision_is_the_next_of_its_samples_own_stream() -> None:
    plan = SAMPLERS["window"].plan(GROUP, ID, RNG)
    stream = RNG.child("noise").normal(ID, (3, 2))
    start, *steps = plan.noise(RNG, (2,))
    assert torch.equal(start, stream[:, 0])
    for row in range(8):
        first, second = plan.decides[row].nonzero()[:, 0].tolist()
        assert torch.equal(steps[first][row], stream[row, 1]) and torch.equal(steps[second][row], stream[row, 2])
