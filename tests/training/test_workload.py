"""The numbers of an iteration, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from limner.algorithms.dpo import DPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.training.config import Evaluation, RunConfig
from limner.training.source import Preferences
from limner.training.workload import branches, curve_part, decisions, guided, measured, states, workload

SDE = FlowSDE()


def test_stable_diffusion_35_as_flow_grpo_trains_it() -> None:
    """48 groups of 24, ten steps with guidance, nine decisions each, two optimizer steps, eight at a time."""
    work = workload(recipe("sd35_medium"))
    assert (work.samples, work.share, work.states, work.recorded, work.taught) == (1152, 1152, 240, 9, 216)
    assert (work.rollout_passes, work.updates, work.update_passes) == (144, 2, 648)


def test_processes_share_whole_groups() -> None:
    """Of 48 groups five processes have ten at most: 240 samples, 30 passes, 10 x 216 / 2 decisions a step."""
    work = workload(recipe("sd35_medium"), processes=5)
    assert (work.own_groups, work.share, work.rollout_passes, work.update_passes) == (10, 240, 30, 135)


def test_samples_are_noised_again() -> None:
    """The scenes recipe: 12 groups of 12, an ODE, three times each, one step, 144 at a time."""
    work = workload(recipe("scenes"))
    assert (work.samples, work.recorded, work.taught, work.update_passes) == (144, 0, 36, 3)


def test_pairs_are_given() -> None:
    config = RunConfig("x", source=Preferences("x"), algorithm=DPO(), sampler=Sampler(EulerODE()), prompts_per_step=6)
    work = workload(config, given=2)
    assert (work.samples, work.rollout_passes, work.states, work.taught) == (12, 0, 0, 2 * config_times(config))


def config_times(config: RunConfig) -> int:
    assert config.algorithm.needs.renoise is not None
    return config.algorithm.needs.renoise.num_times


def test_a_step_has_a_group_at_least() -> None:
    config = RunConfig("x", algorithm=FlowGRPO(num_updates=9), sampler=Sampler(SDE), prompts_per_step=2, group_size=3)
    assert workload(config).updates == 6
    online = replace(config, algorithm=DPO(num_updates=9), sampler=Sampler(EulerODE()))
    assert workload(online).updates == 2


@pytest.mark.parametrize(
    ("sampler", "kept", "through"),
    [
        (Sampler(EulerODE(), steps=5), 0, 20),
        (Sampler(SDE, steps=5), 4, 20),
        (Sampler(SDE, steps=5, window=2, window_range=(1, 1)), 2, 20),
        (Sampler(SDE, steps=5, shared_start=True), 4, 1 + 4 * 4),
        (Sampler(SDE, steps=5, window=1, window_range=(0, 2), shared_start=True), 1, 2 + 4 * 3),
        (Sampler(EulerODE(), steps=5, shared_start=True), 0, 5),
        (Sampler(SDE, steps=5, splits=(0, 2)), 4, 1 + 2 + 2 + 4 + 4),
    ],
)
def test_what_samples_share_is_counted_once(sampler: Sampler, kept: int, through: float) -> None:
    """Groups of four."""
    assert decisions(sampler) == kept and states(sampler, 4) == through


def test_branches_decide_once() -> None:
    """Splits at steps 0 and 2 of five: then there are 2, 2, 4 and 4 branches, and the last step is no decision."""
    assert branches(Sampler(SDE, steps=5, splits=(0, 2))) == 2 + 2 + 4 + 4


def test_evaluations_are_drawn() -> None:
    """Seven prompts, three seeds, before and after; by the ODE too, and the guided base once; a curve of 3 points."""
    sampler = Sampler(SDE, guidance=2.0)
    asked = Evaluation(prompts="x", seeds=3, every=4, part=3, ode_steps=6, guidance=4.0)
    found = measured(RunConfig("x", sampler=sampler, evaluation=asked, steps=14), 7)
    assert [(each.by.name, each.kept, each.curve) for each in found] == [
        ("sampler", 42, 3 * 4),
        ("ode", 42, 0),
        ("guided", 21, 0),
    ]
    assert list(curve_part(range(7), 3)) == [0, 2, 4, 6] and found[0].samples == 54
    assert [guided(each.by.sampler) for each in found if isinstance(each.by.sampler, Sampler)] == [2, 1, 2]
