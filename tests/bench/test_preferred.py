"""The least loss of DPO: against closed forms, fields that are planted, and the library's own loss of drawn answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from golden.curves import Log
from limner.algorithms.dpo import DPO
from limner.bench import fields
from limner.bench.fields import at, least, minimised, share, solve
from limner.bench.oracles import ENTRIES, NOISE, _double, annotator, config
from limner.bench.preferred import Asked, ask, bayes, losses, moved, times
from limner.build import assemble
from limner.core.needs import Renoising
from limner.core.rng import Rng
from limner.core.types import Renoised, Rollout
from limner.learning.restoration import Noising, matching_error
from limner.objectives.preference import pair_loss
from limner.training.loop import Hooks, train
from limner.training.state import State
from oracle_case import policy

DPO2, IPO = DPO(beta=2.0), DPO(beta=0.5, loss="ipo")
LEAN = torch.tensor([1.0, 0.5]).double()


def affine(weights):
    """The field weights (x, 1), which is what o1's and o2's policies can make of one time."""
    return lambda x: x @ weights[:, :2].T + weights[:, 2]


def asked(world="o1", t=0.4, count=2000, key="pairs"):
    return ask(policy(world, moved=0.0), annotator(world), t, count, Rng((key,)))


@pytest.mark.parametrize("name", ["o2", "o3", "o1-noise"])
def test_a_loss_is_the_mean_of_the_librarys_over_both_answers(name):
    """Errors by `matching_error` of what the policy and the base restore, the pair's gap, and `pair_loss` of each."""
    mine, base = policy(name), policy(name, moved=0.0)
    of = ask(base, annotator(name[:2]), 0.3, 50, Rng(("pairs",)))
    changes = []
    for state, error in zip(of.state, of.error, strict=True):
        t, index = torch.full((50,), 0.3).double(), torch.zeros(50, dtype=torch.long)
        with torch.no_grad():
            new, old = (each.estimate(state, t, {"nothing": torch.zeros(1)}, index) for each in (mine, base))
        alpha, sigma = (part(t)[:, None] for part in (base.model.schedule.alpha, base.model.schedule.sigma))
        noise = (state + alpha * (old.velocity - error)) / (alpha + sigma)
        pack = Renoised(state, (state - sigma * noise) / alpha, noise, t, index, index, index, None)
        changes.append(matching_error(new, pack) - matching_error(old, pack))
    gap = changes[0] - changes[1]
    first, second = (pair_loss(each, torch.zeros(50), 2.0) for each in (gap, -gap))
    expected = of.chance * first + (1 - of.chance) * second
    torch.testing.assert_close(losses(DPO2, moved(mine, base, 0.3), of), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("t", [0.3, 0.5, 0.9])
def test_on_o1_the_field_of_the_closed_form_loses_what_free_gaps_do_and_the_solver_finds_it(t):
    known = -(2 / DPO2.beta) * (t**2 + (1 - t) ** 2) / t * LEAN / NOISE
    of, other = asked(t=t), asked(t=t, key="others")
    torch.testing.assert_close(losses(DPO2, known.expand_as, other), bayes(DPO2, other), rtol=1e-6, atol=1e-9)
    entropy = torch.distributions.Bernoulli(other.chance).entropy()
    torch.testing.assert_close(bayes(DPO2, other), entropy)
    ((_, grid),) = solve(DPO2, of, (7,), 80)
    assert float(losses(DPO2, at(grid), other).mean()) < float(entropy.mean()) + 0.01
    found = at(grid)(other.state.flatten(0, 1))
    assert float((found.mean(0) - known).norm()) < 0.05 * float(known.norm())
    _, weights = minimised(DPO2, of, affine, torch.zeros(2, 3).double(), 60)
    torch.testing.assert_close(weights[:, 2], known, rtol=0.02, atol=0.02)
    assert weights[:, :2].abs().max() < 0.03 * float(known.norm()) + 0.02


@pytest.mark.parametrize("algorithm", [DPO2, IPO], ids=["sigmoid", "ipo"])
def test_a_field_that_was_planted_is_found(algorithm):
    """On o3, with a taste that is no utility's: the answers' chances are those that a bent field would make of them."""

    def bent(x):
        return 0.3 * torch.stack([torch.sin(x[:, 1]), torch.cos(2 * x[:, 0])], 1)

    of, other = (planted(algorithm, bent, key) for key in ("pairs", "others"))
    torch.testing.assert_close(losses(algorithm, bent, other), bayes(algorithm, other))
    ground, best = (float(losses(algorithm, each, other).mean()) for each in (torch.zeros_like, bent))
    found = [float(losses(algorithm, at(grid), other).mean()) for _, grid in solve(algorithm, of, (7, 15), 60)]
    assert best < min(found) < best + 0.05 * (ground - best)


def planted(algorithm, field, key):
    of = asked("o3", 0.45, 8000, key)
    change = (field(of.state.flatten(0, 1)).view(of.state.shape) + of.error).square().mean(2) - of.error.square().mean(
        2
    )
    gap = change[0] - change[1]
    if algorithm.loss == "sigmoid":
        return of._replace(chance=torch.sigmoid(-algorithm.beta / 2 * gap))
    inside = gap.abs() < 1 / (2 * algorithm.beta)
    return Asked(of.state[:, inside], of.error[:, inside], (1 - 2 * algorithm.beta * gap[inside]) / 2)


def test_with_a_small_beta_the_best_of_o3_moves_all_modes_alike_and_far_while_it_is_early():
    """In the gap what the pair's noise is multiplied by cancels, and squares do not; a larger beta makes it dear."""
    modes = 0.82 * policy("o3", moved=0.0).model.world.base.means.double()
    of = asked("o3", 0.18, 4000)
    ((_, far),) = solve(DPO2, of, (11,), 50)
    ((_, near),) = solve(DPO(beta=8.0), of, (11,), 50)
    centre = at(far)(modes).mean(0)
    assert float(centre.norm()) > 3 and float((at(far)(modes) - centre).norm(dim=1).max()) < 1
    assert float(at(near)(modes).norm(dim=1).mean()) < 0.5


def test_times_are_quantiles_of_those_that_are_drawn():
    base, ids = policy("o1", moved=0.0), torch.arange(4000)
    nothing = torch.zeros(4000, dtype=torch.long)
    rollout = Rollout([], ids, nothing, {}, torch.zeros(4000, 2), None, ids, 0)
    for low in (0.0, 0.4):
        how = Renoising(1, "logit_normal", low, True, False)
        drawn = torch.cat([pack.t for pack in base.renoise(rollout, ids, how, Rng(("t",)), 4000)])
        expected = torch.quantile(drawn, torch.tensor([0.125, 0.375, 0.625, 0.875]))
        found = times(DPO(noising=Noising(min_time=low)), 4)
        assert found == pytest.approx(expected.tolist(), abs=0.02)


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch):
    """Three times and few pairs, for which fields must be rough, or they are found on noise."""
    for name, value in {"PAIRS": 8000, "OTHERS": 4000, "TIMES": 3, "GRIDS": (9, 17), "STEPS": 30}.items():
        monkeypatch.setattr(fields, name, value)


@pytest.mark.parametrize("world", ["o1", "o2", "o3"])
def test_dpo_reaches_nine_tenths_of_its_own_optimum(world, coarse):
    """On o1 to o3, in a shorter run than the bench's; a base that has not moved has none of it."""
    entry = replace(ENTRIES["DPO, beta 8"], steps=(100, 150))
    run, log = config(entry, world, "velocity", 0), Log()
    assembly = assemble(run)
    train(run, assembly.parts, State(), Hooks(log, log, lambda state: None, lambda state: {}))
    known = least(world, entry.algorithm, annotator(world))
    assert all(each.bayes < each.best for each in known) and sum(each.base - each.best for each in known) > 0.1
    mine, base = (_double(assembly, role) for role in ("policy", "reference"))
    assert share(base, base, entry.algorithm, known) == pytest.approx(0, abs=1e-9)
    assert 0.9 < share(mine, base, entry.algorithm, known) < 1.1
