"""Denoising as a policy: what was recorded is what is scored, for latents of any rank."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from limner.core.errors import UserError
from limner.core.needs import Renoising
from limner.core.rng import Rng
from limner.core.tree import leaves, select
from limner.core.types import Prompt, Rollout
from limner.diffusion.dynamics import CPS, DDIM, DanceSDE, DPMSolver, EulerODE, FlowSDE
from limner.policies.denoising import Sampler
from limner.policies.guided import guided
from limner.policies.plan import Plan
from limner.training.preflight import rescore
from toys import toy_denoiser, toy_rollout


def steps_of(rollout, grid):
    """Return the number of the step of each recorded decision."""
    return (rollout.path.states.t[..., None] == grid).int().argmax(-1)


class Counting:
    """A denoiser that notes the size of every evaluation."""

    def __init__(self, model, seen):
        self.model, self.seen = model, seen

    def __getattr__(self, name):
        return getattr(self.model, name)

    def predict(self, x, t, condition, prompt_index):
        self.seen.append(len(x))
        return self.model.predict(x, t, condition, prompt_index)


DYNAMICS = [FlowSDE(0.7), DanceSDE(0.3), CPS(0.8), DDIM(1.0)]


@pytest.mark.parametrize("rank", range(6))
@pytest.mark.parametrize("dynamics", DYNAMICS, ids=lambda d: type(d).__name__)
def test_recorded_decisions_score_to_a_ratio_of_one(rank, dynamics):
    policy = Sampler(dynamics, steps=5).policy(toy_denoiser(rank))
    rollout = toy_rollout(policy)
    assert torch.equal(rescore(policy, rollout, 12), torch.zeros(4 * 12))
    for size in (1, 5, 100):
        assert rescore(policy, rollout, size).abs().max() / policy.elements() < 1e-6


@pytest.mark.parametrize("dynamics", DYNAMICS, ids=lambda d: type(d).__name__)
def test_recorded_decisions_have_the_density_of_an_independent_formula(dynamics):
    """Replay the path by hand in float64: each choice is mean + std noise, with the noise that the stream names."""
    model = toy_denoiser(2)
    policy = Sampler(dynamics, steps=5).policy(model)
    rollout = toy_rollout(policy)
    noise = Rng(("toy", 0)).child("noise").normal(rollout.id, (5, *model.shape)).double()
    t = rollout.trajectory
    for i in range(4):
        assert torch.equal(t.choices[:, i - 1] if i else noise[:, 0].float(), t.states.x[:, i])
        std = t.old.std[:, i].double().view(-1, 1, 1)
        assert torch.allclose((t.choices[:, i].double() - t.old.mean[:, i].double()) / std, noise[:, i + 1], atol=1e-4)
        expected = torch.distributions.Normal(t.old.mean[:, i].double(), std).log_prob(t.choices[:, i].double())
        pack = next(iter(replace(policy).pack(rollout, torch.arange(12), 12))) if i == 0 else None
        if pack is not None:
            assert torch.allclose(
                policy.distribution(pack, rollout.condition).log_prob(pack.choice).double(),
                expected.sum((1, 2)),
                rtol=1e-5,
            )


def test_the_last_step_adds_no_noise_and_is_no_decision():
    policy = Sampler(FlowSDE(0.7), steps=5).policy(toy_denoiser(1))
    rollout = toy_rollout(policy)
    last = rollout.trajectory.choices[:, -1]
    t = rollout.path.states.s[:, -1]
    ode = policy.estimate(last, t, rollout.condition, rollout.prompt_index).x0
    assert rollout.path.length.shape == (12, 4)
    assert torch.allclose(rollout.sample, ode.detach(), atol=1e-6)


def test_a_window_is_shared_by_a_group_and_the_rest_is_the_ode():
    model = toy_denoiser(2)
    policy = Sampler(FlowSDE(0.7), steps=8, window=2, window_range=(0, 4)).policy(model)
    rollout = toy_rollout(policy, prompts=6)
    step = steps_of(rollout, policy.times()).view(6, 4, 2)
    assert (step == step[:, :1]).all() and (step[..., 1] - step[..., 0] == 1).all()
    assert len(step[:, 0, 0].unique()) > 1 and step.min() >= 0 and step.max() <= 5
    ratio = rescore(policy, rollout, 7)
    assert ratio.abs().max() / policy.elements() < 1e-6
    ode = Sampler(EulerODE(), steps=8).policy(model)
    noise = Rng(("toy", 0)).child("noise").normal(rollout.id, (3, *model.shape))[:, 0]
    late = step[:, 0, 0].repeat_interleave(4) > 0
    with torch.no_grad():
        x, times = noise, model.times(8)
        for i in range(8):
            first = steps_of(rollout, times)[:, 0] == i
            assert torch.allclose(rollout.path.states.x[first, 0], x[first], atol=1e-6)
            t, s = times[i].expand(24), times[i + 1].expand(24)
            estimate = ode.estimate(x, t, rollout.condition, rollout.prompt_index)
            x = EulerODE().step(x, estimate, t, s, model.schedule).mean
    assert late.any()


def test_a_sample_depends_on_its_id_alone():
    policy = Sampler(FlowSDE(0.7), steps=4, window=1, window_range=(0, 2)).policy(toy_denoiser(2))
    condition = policy.model.encode([Prompt("1"), Prompt("2")])
    index, id = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([4, 9, 2, 7, 1])
    rng = Rng(("x", 1))
    whole = policy.sample(condition, index, index, id, rng=rng, record=True)
    order = torch.tensor([3, 0, 4])
    part = policy.sample(condition, index[order], index[order], id[order], rng=rng, record=True)
    assert torch.allclose(whole.sample[order], part.sample, atol=1e-6)
    other = policy.sample(condition, index, index, id + 1, rng=rng, record=False)
    assert other.trajectory is None and not torch.allclose(whole.sample, other.sample, atol=0.01)


def test_an_ode_has_no_decisions():
    rollout = toy_rollout(Sampler(EulerODE(), steps=4).policy(toy_denoiser(1)))
    assert rollout.path.states.x.shape == (12, 0, 3)


def test_guidance_extrapolates_from_the_empty_prompt():
    model = toy_denoiser(2)
    condition = model.encode([Prompt("1"), Prompt("2")])
    x, t, index = torch.randn(4, *model.shape), torch.rand(4), torch.tensor([0, 1, 1, 0])
    empty = torch.full((4,), 2)
    c, u = model.predict(x, t, condition, index), model.predict(x, t, condition, empty)
    assert torch.allclose(guided(model.predict, 3.0, (x, t), condition, index), 3 * c - 2 * u, atol=1e-5)
    assert torch.equal(guided(model.predict, 1.0, (x, t), condition, index), c)
    velocity = Sampler(guidance=3.0).policy(model).estimate(x, t, condition, index).velocity
    assert torch.allclose(velocity, 3 * c - 2 * u, atol=1e-5)
    assert select(condition, empty)["word"].eq(0).all()


def test_a_sliding_window_is_where_its_iteration_says():
    policy = Sampler(
        FlowSDE(0.7), 8, window=2, window_range=(1, 4), window_schedule="progressive", window_every=3
    ).policy(toy_denoiser(2))
    columns = []
    for iteration in (0, 2, 3, 11, 12):
        rollout = toy_rollout(policy.at(iteration))
        columns.append({tuple(row) for row in steps_of(rollout, policy.times()).tolist()})
    assert columns == [{(1, 2)}, {(1, 2)}, {(2, 3)}, {(4, 5)}, {(1, 2)}]
    drawn = Sampler(FlowSDE(0.7), 8, window=2, window_range=(1, 4)).policy(toy_denoiser(2))
    assert drawn.at(5) == drawn


@pytest.mark.parametrize("width", [1, 2])
def test_a_shared_start_is_computed_once_and_changes_nothing_else(width, monkeypatch):
    """Up to its window a group is one sample; values are those of evaluating every row."""
    model, seen = toy_denoiser(2), []
    settings = {"window": width, "window_range": (1, 5 - width), "shared_start": True}
    policy = Sampler(FlowSDE(0.7), 6, **settings).policy(Counting(model, seen))
    rollout = toy_rollout(policy, prompts=3, group_size=4)
    path = rollout.trajectory
    step = steps_of(rollout, policy.times())
    starts = step[::4, 0].tolist()
    assert seen == [sum(1 if step <= start else 4 for start in starts) for step in range(6)] and len(set(starts)) > 1
    for rows in torch.arange(12).split(4):
        assert (path.states.x[rows, 0] == path.states.x[rows[0], 0]).all() and (step[rows] == step[rows[0]]).all()
        assert len({tuple(x.flatten().tolist()) for x in path.choices[rows, 0]}) == 4
    plain = toy_rollout(replace(policy, model=model), prompts=3, group_size=4)
    torch.testing.assert_close(plain.sample, rollout.sample)
    everyone = replace(policy, model=model)
    monkeypatch.setattr(Plan, "states", lambda plan, step: (torch.arange(12),) * 2)
    torch.testing.assert_close(toy_rollout(everyone, prompts=3, group_size=4).sample, rollout.sample)
    packs = list(everyone.pack(rollout, torch.arange(12), 100))
    ratios = torch.cat([everyone.distribution(p, rollout.condition).log_ratio(p.old, p.choice) for p in packs])
    assert ratios.abs().max() < 1e-5


def test_without_a_window_a_shared_start_is_one_noise_and_one_first_step():
    policy = Sampler(FlowSDE(0.7), 5, shared_start=True).policy(toy_denoiser(2))
    states = toy_rollout(policy, prompts=2, group_size=3).path.states.x
    assert (states[:3, 0] == states[0, 0]).all() and not (states[:3, 1] == states[0, 1]).all()
    ode = toy_rollout(Sampler(EulerODE(), 5, shared_start=True).policy(toy_denoiser(2)), prompts=2, group_size=3)
    assert (ode.sample[:3] == ode.sample[0]).all() and not torch.equal(ode.sample[0], ode.sample[3])


def test_a_tree_shares_what_its_leaves_have_in_common_and_computes_it_once(monkeypatch):
    """Splits at steps 1 and 3 of 6: one branch, then two, then four; values are those of evaluating every row."""
    model, seen = toy_denoiser(2), []
    counting = Counting(model, seen)
    policy = Sampler(FlowSDE(0.7), 6, splits=(1, 3)).policy(counting)
    rollout = toy_rollout(policy, prompts=3, group_size=4)
    path = rollout.path
    assert seen == [3, 3, 6, 6, 12, 12]
    assert path.node[4:8].T.tolist() == [[4] * 4, [4, 4, 6, 6], [4, 4, 6, 6], [4, 5, 6, 7], [4, 5, 6, 7]]
    assert (path.mask == (path.node == rollout.id[:, None])).all() and path.mask.sum() == 3 * (1 + 2 + 2 + 4 + 4)
    for column in range(5):
        assert len(path.choices[:, column].flatten(1).unique(dim=0)) == len(path.node[:, column].unique())
        owner = path.node[:, column]
        assert torch.equal(path.choices[:, column], path.choices[owner, column])
    monkeypatch.setattr(Plan, "states", lambda plan, step: (torch.arange(12),) * 2)
    torch.testing.assert_close(toy_rollout(policy, prompts=3, group_size=4).sample, rollout.sample)
    packs = list(policy.pack(rollout, torch.arange(12), 7))
    assert sum(map(len, packs)) == int(path.mask.sum())
    assert (
        torch.cat([policy.distribution(p, rollout.condition).log_ratio(p.old, p.choice) for p in packs]).abs().max()
        < 1e-5
    )


def test_a_leaf_does_not_depend_on_which_others_are_drawn_with_it():
    policy = Sampler(FlowSDE(0.7), 5, splits=(0, 2)).policy(toy_denoiser(2))
    whole = toy_rollout(policy, prompts=2, group_size=4)
    rows = torch.tensor([1, 2, 7])
    part = policy.sample(
        whole.condition, whole.prompt_index[rows], whole.group[rows], rows, rng=Rng(("toy", 0)), record=True
    )
    torch.testing.assert_close(part.sample, whole.sample[rows])
    assert torch.equal(part.trajectory.mask, whole.path.mask[rows])


def test_branches_of_a_tree_have_the_sampler_s_own_law():
    """Each leaf alone is a plain sample: its mean and standard deviation over many trees are those of plain samples."""
    model = toy_denoiser(1)
    tree, plain = (Sampler(FlowSDE(0.7), 5, splits=splits).policy(model) for splits in ((0, 2), ()))
    leaves, samples = (toy_rollout(p, 1, 2**14, condition={"word": torch.tensor([1, 0])}) for p in (tree, plain))
    # group 0 of 2^14 samples: 2^12 trees side by side, since leaf numbers go on
    torch.testing.assert_close(leaves.sample.mean(0), samples.sample.mean(0), rtol=0, atol=0.04)
    torch.testing.assert_close(leaves.sample.std(0), samples.sample.std(0), rtol=0.03, atol=0)


def test_shifted_times_are_logit_normal_ones_moved_by_three():
    policy = Sampler(EulerODE(), 10).policy(toy_denoiser(1))
    rollout, rows = toy_rollout(policy, prompts=5, group_size=40), torch.arange(200)
    plain, shifted = (
        torch.cat([p.t for p in policy.renoise(rollout, rows, Renoising(3, times), Rng((0,)), 64)])
        for times in ("logit_normal", "shifted_logit_normal")
    )
    torch.testing.assert_close(shifted, 3 * plain / (1 + 2 * plain))


@pytest.mark.parametrize("times", ["grid", "logit_normal"])
def test_no_time_is_below_the_least(times):
    policy = Sampler(EulerODE(), 10).policy(toy_denoiser(1))
    rollout, rows = toy_rollout(policy, prompts=5, group_size=40), torch.arange(200)
    t = torch.cat([p.t for p in policy.renoise(rollout, rows, Renoising(3, times, 0.6), Rng((0,)), 64)]).double()
    assert t.min() >= 0.6 - 1e-6
    if times == "grid":
        assert {round(x, 3) for x in t.tolist()} == {0.6, 0.7, 0.8, 0.9, 1.0}
        with pytest.raises(UserError, match="exceeds the sampler's 5 times from min_time 0.6 on"):
            next(policy.renoise(rollout, rows, Renoising(6, times, 0.6), Rng((0,)), 64))
    else:  # a logit-normal, cut off at .6: its median is the quantile half way up from there
        below = 0.5 * (1 + math.erf(math.log(0.6 / 0.4) / math.sqrt(2)))
        median = torch.sigmoid(torch.special.ndtri(torch.tensor((1 + below) / 2)))
        assert t.median().item() == pytest.approx(median.item(), rel=0.03)


def test_the_solver_draws_what_its_steps_say():
    """DPM-Solver++ through the sampler, against the loop written out."""
    model, index = toy_denoiser(1, dtype=torch.float64), torch.arange(4)
    policy = Sampler(DPMSolver(), 5).policy(model)
    condition = model.encode([Prompt(str(i)) for i in range(4)])
    with torch.no_grad():
        drawn = policy.sample(condition, index, index, index, rng=Rng((0,)), record=False)
        x = Rng((0,)).child("noise").normal(index, (1, 3))[:, 0].double()
        times, data, log_snr = policy.times(), [], lambda t: torch.log((1 - t) / t)
        for i in range(5):
            t, s = times[i], times[i + 1]
            data.append(policy.estimate(x, t.expand(4), condition, index).x0)
            x0 = data[-1]
            if 1 < i < 4:
                h, before = log_snr(s) - log_snr(t), log_snr(t) - log_snr(times[i - 1])
                x0 = x0 + h / (2 * before) * (x0 - data[-2])
            x = s / t * x + (1 - s - s / t * (1 - t)) * x0
    torch.testing.assert_close(drawn.sample, x)


@pytest.mark.parametrize("settings", [{}, {"window": 2, "window_range": (1, 1)}, {"splits": (0, 2)}], ids=str)
def test_who_watches_sees_each_step_as_it_is_recorded(settings):
    policy, seen = Sampler(FlowSDE(0.7), 5, **settings).policy(toy_denoiser(2)), []
    condition, index, id = policy.model.encode([Prompt("1"), Prompt("2")]), torch.arange(8) // 4, torch.arange(8)
    with torch.no_grad():
        drawn = policy.sample(condition, index, index, id, rng=Rng((3,)), record=True, watch=seen.append)
        unseen = policy.sample(condition, index, index, id, rng=Rng((3,)), record=False)
        for step, after in zip(seen, [*seen[1:], None], strict=True):
            torch.testing.assert_close(step.estimate, policy.estimate(step.x, step.t.expand(8), condition, index))
            assert torch.equal(step.choice, drawn.sample if after is None else after.x)
    assert torch.equal(drawn.sample, unseen.sample) and [step.index for step in seen] == [0, 1, 2, 3, 4]
    path, deciding = drawn.trajectory, [step for step in seen if (step.next.std > 0).all()]
    assert len(deciding) == path.mask.shape[1] and not any((step.next.std > 0).any() for step in seen[4:])
    for kept, name in ((path.states.x, "x"), (path.choices, "choice")):
        assert torch.equal(kept, torch.stack([vars(step)[name] for step in deciding], 1))
    assert torch.equal(path.old.mean, torch.stack([step.next.mean for step in deciding], 1))
    assert torch.equal(path.states.t, torch.stack([step.t for step in deciding]).expand(8, -1))
    assert torch.equal(path.length, torch.stack([step.t - step.s for step in deciding]).expand(8, -1))


RECORDED = {
    "all but the last": {},
    "windows": {"window": 2, "window_range": (0, 2)},
    "shared start": {"window": 2, "window_range": (1, 1), "shared_start": True},
    "tree": {"splits": (0, 2)},
    "on the host": {"keep": "host"},
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_path_is_kept_once_and_packed_as_it_was_walked(name):
    """Each latent between two decisions has one place, and what is learnt from is what who watched saw, to the bit."""
    policy, seen = Sampler(FlowSDE(0.7), 5, **RECORDED[name]).policy(toy_denoiser(1)), []
    condition, index, id = policy.model.encode([Prompt("1"), Prompt("2")]), torch.arange(8) // 4, torch.arange(8)
    with torch.no_grad():
        drawn = policy.sample(condition, index, index, id, rng=Rng((3,)), record=True, watch=seen.append)
    path, decided = drawn.trajectory, policy.sampler.plan(index, id, Rng((3,))).decides
    count = int(decided[0].sum())
    tensors = {leaf.untyped_storage().data_ptr(): leaf.untyped_storage().nbytes() for leaf in leaves(path)}
    large = sum(size for size in tensors.values() if size > 8 * 8 * count)
    assert large == 8 * 3 * 4 * (count + 1 + count)  # points, and means, of 3 float32 each
    rollout = Rollout([Prompt("1"), Prompt("2")], index, index, condition, drawn.sample, path, id, 0)
    rows = torch.tensor([6, 1, 3, 0])
    packed = list(policy.pack(rollout, rows, 5))
    assert sum(map(len, packed)) == int(path.mask[rows].sum())
    for pack in packed:
        for i, (row, column) in enumerate(zip(pack.row.tolist(), pack.column.tolist(), strict=True)):
            step = seen[decided[row].nonzero()[column, 0]]
            assert torch.equal(pack.state.x[i], step.x[row]) and torch.equal(pack.choice[i], step.choice[row])
            assert torch.equal(pack.old.mean[i], step.next.mean[row]) and pack.old.std[i] == step.next.std[row]
            assert (pack.state.t[i], pack.state.s[i]) == (step.t, step.s)
    chosen = select(path, torch.tensor([5, 2]))
    assert chosen.choices.untyped_storage().data_ptr() == chosen.states.x.untyped_storage().data_ptr()
    assert torch.equal(chosen.choices, path.choices[[5, 2]])


def test_a_search_is_a_watcher_or_a_loop_over_the_same_steps():
    """Keep, at every decision, the sample of a group whose estimate is largest: it gains, and both forms agree."""
    model, index, id = toy_denoiser(1), torch.arange(12) // 4, torch.arange(12)
    policy, rng = Sampler(FlowSDE(1.0), 6).policy(model), Rng((5,))
    condition = model.encode([Prompt(str(i)) for i in (1, 2, 3)])

    def fittest(x, estimate):
        value = estimate.x0.mean(1).view(3, 4)
        return x[(value.argmax(1) + 4 * torch.arange(3)).repeat_interleave(4)]

    def survive(step):
        return fittest(step.choice, step.estimate) if step.index == 3 else None

    with torch.no_grad():
        found = policy.sample(condition, index, index, id, rng=rng, record=True, watch=survive)
        plain = policy.sample(condition, index, index, id, rng=rng, record=False).sample
        times, plan = policy.times(), policy.sampler.plan(index, id, rng)
        noise = plan.noise(rng, (3,))
        x = next(noise)
        for i in range(6):
            span = times[i].expand(12), times[i + 1].expand(12)
            estimate, drawn_from = policy.step(x, span, condition, index, plan.decides[:, i])
            x = drawn_from.sample(next(noise))
            x = fittest(x, estimate) if i == 3 else x
    assert torch.equal(found.sample, x) and not torch.equal(x, plain)
    assert found.sample.mean() > plain.mean() + 0.05
    assert torch.equal(found.trajectory.choices[:, 3], found.trajectory.states.x[:, 4])


def test_samples_that_are_one_state_stay_one():
    policy = Sampler(FlowSDE(), 5, splits=(0, 2)).policy(toy_denoiser(1))
    condition, index, id = policy.model.encode([Prompt("1")]), torch.zeros(4, dtype=torch.long), torch.arange(4)

    def draw(watch):
        with torch.no_grad():
            return policy.sample(condition, index, index, id, rng=Rng((3,)), record=False, watch=watch)

    assert draw(lambda step: -step.choice).sample.unique(dim=0).shape == (4, 3)
    with pytest.raises(ValueError, match="after step 0 some samples are still one state"):
        draw(lambda step: step.choice + id[:, None])


def test_one_step_is_enough_for_an_ode_and_too_few_for_noise():
    drawn = toy_rollout(Sampler(EulerODE(), 1).policy(toy_denoiser(1)))
    assert drawn.sample.shape == (12, 3)
    with pytest.raises(UserError, match="sampler.steps must be at least 2 where steps are stochastic"):
        Sampler(FlowSDE(), 1)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_the_plain_sampler_is_the_ode_on_the_models_own_grid(guidance):
    trained = Sampler(DanceSDE(0.3), 8, "linear", window=2, window_range=(0, 3), shared_start=True, guidance=guidance)
    assert trained.plain() == Sampler(EulerODE(), 8, guidance=guidance)
    assert trained.plain(3, 1.0) == Sampler(EulerODE(), 3)
