"""What pair losses learn on the oracle worlds, against what they should in closed form; a reference that follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from golden.curves import Log
from limner.algorithms.dpo import DPO
from limner.algorithms.dspo import DSPO
from limner.algorithms.kto import KTO
from limner.algorithms.mapo import MaPO
from limner.bench import exact
from limner.bench.annotated import Annotated
from limner.bench.oracles import ENTRIES, NOISE, config, curve, efficiency
from limner.build import Assembly, assemble
from limner.core.rng import Rng
from limner.learning.restoration import Noising
from limner.training.loop import Hooks, train
from limner.training.state import State
from limner.worlds.annotator import Annotator

LEAN = torch.tensor([1.0, 0.5])
"""a of o1, whose utility is a . x."""


def trained(algorithm, world="o1", **changes) -> tuple[Assembly, Log]:
    entry = replace(ENTRIES["DPO"], algorithm=algorithm)
    run = replace(config(entry, world, "velocity", 0), **changes)
    assembly, log = assemble(run), Log()
    train(run, assembly.parts, State(), Hooks(log, log, lambda state: None, lambda state: {}))
    return assembly, log


def test_diffusion_dpo_finds_the_shift_that_explains_every_answer():
    """On o1 the optimum of its surrogate is exact: a velocity that is moved by -(D / beta) (s^2 / t) a / noise.

    With s^2 = t^2 + (1 - t)^2 and D = 2 elements, beta / 2 times the gap of a pair is then (u_b - u_a) / noise for any
    noise and time: the log-odds of the answers, which no cross-entropy beats.
    """
    noising = Noising(num_times=4, min_time=0.3)
    assembly, _ = trained(DPO(beta=4.0, noising=noising), steps=200, prompts_per_step=128)
    residual, t = assembly.model.networks["residual"], torch.linspace(0.4, 0.85, 10)
    shift = residual(torch.zeros(10, 2), t).detach()
    expected = -(2 / 4.0) * ((t**2 + (1 - t) ** 2) / t)[:, None] * LEAN / NOISE
    assert float((shift * expected).sum() / expected.square().sum()) == pytest.approx(1, abs=0.05)
    assert float((shift - expected).norm() / expected.norm()) < 0.15
    spread = torch.stack([residual(each.expand(10, 2), t) for each in torch.eye(2)]).detach() - shift
    assert float(spread.norm(dim=2).mean()) < 0.15 * float(expected.norm(dim=1).mean())


@pytest.mark.parametrize("world", ["o1", "o2"])
@pytest.mark.parametrize("name", ["DPO", "IPO", "MaPO", "D3PO", "SPO"])
def test_what_is_then_drawn_has_nine_tenths_of_what_its_distance_can_buy(name, world):
    last = curve(replace(ENTRIES[name], steps=(60, 60)), world, points=1)[-1]
    assert last.kl > 0.1 and 0.9 < efficiency(last) <= 1 + 1e-6


def double(assembly: Assembly):
    policy = assembly.policy("policy")
    policy.model.networks["residual"].double()
    return policy


def test_a_reference_that_is_refreshed_is_the_policy_of_then():
    """At first, and after every third iteration, nothing has changed by its measure; in between it has."""
    entry = ENTRIES["DPO, online"]
    run = replace(config(entry, "o1", "velocity", 0), algorithm=DPO(beta=4.0, refresh=3), steps=7)
    log = Log()
    train(run, assemble(run).parts, State(), Hooks(log, log, lambda state: None, lambda state: {}))
    moved = [abs(a) + abs(b) for a, b in zip(log.curve["better_change"], log.curve["worse_change"], strict=True)]
    assert [each == pytest.approx(0, abs=1e-7) for each in moved] == [True, False, False] * 2 + [True]
    assert log.curve["reward/mean"][-1] > log.curve["reward/mean"][0]


@pytest.mark.parametrize(
    "algorithm", [KTO(beta=8.0), DSPO(beta=0.3), MaPO(margin_scale=4.0)], ids=["kto", "dspo", "mapo"]
)
def test_the_others_go_where_the_annotator_points(algorithm):
    assembly, _ = trained(algorithm, steps=25)
    mean = exact.drawn(exact.steps(double(assembly))).mean
    assert float(mean @ LEAN.double()) > 0.2 and float(torch.cosine_similarity(mean, LEAN.double(), dim=0)) > 0.9


def test_the_source_never_gives_a_pair_twice_and_shares_them_out():
    source = Annotated(Annotator("o2", noise=NOISE, ties=0.5))
    run = replace(config(ENTRIES["DPO"], "o2", "velocity", 0), source=source, prompts_per_step=6)
    studio = assemble(run).parts.studio
    first, again, other = (
        source.scored(studio, step, 6, Rng(("step", step)), lambda phase: None) for step in (0, 0, 1)
    )
    assert torch.equal(first.rollout.sample, again.rollout.sample) and torch.equal(first.total, again.total)
    assert not torch.equal(first.rollout.sample, other.rollout.sample)
    assert first.rollout.group.tolist() == [i // 2 for i in range(12)]
    assert torch.equal(first.total.view(6, 2).sum(1), torch.ones(6).double())
