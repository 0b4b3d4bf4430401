"""What every algorithm must do, on latents of rank 0 to 5 and, where it follows a path, on tokens."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from limner.algorithms.awm import AWM
from limner.algorithms.d3po import D3PO
from limner.algorithms.ddpo import DDPO
from limner.algorithms.dgpo import DGPO
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.dpo import DPO
from limner.algorithms.dspo import DSPO
from limner.algorithms.flow_dppo import FlowDPPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.grpo_guard import GRPOGuard
from limner.algorithms.kto import KTO
from limner.algorithms.mapo import MaPO
from limner.algorithms.ppo import PPO
from limner.algorithms.reward_weighted import RewardWeighted
from limner.algorithms.surrogate_gradient import SurrogateGradient
from limner.algorithms.trpo import TRPO
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Batch, Scored
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.learning.credit import credited
from limner.learning.health import HEALTH
from limner.learning.passes import optimizer_steps, partition
from limner.learning.restoration import Noising
from limner.policies.denoising import Sampler
from limner.registry import names
from limner.registry.find import find
from praise import praise, quality, step_along
from toys import losses, toy_denoiser, toy_rollout

ALGORITHMS = [
    FlowGRPO(num_updates=1),
    FlowGRPO(num_updates=1, kl_weight=0.1, scale="none"),
    DiffusionNFT(kl_weight=0.0, num_times=2),
    DiffusionNFT(kl_weight=0.1, num_times=3, times="logit_normal", beta=0.5, adaptive=False),
    AWM(kl_weight=0.0),
    AWM(kl_weight=0.1, num_times=2, times="grid", weighting="uniform", num_updates=1),
    AWM(kl_weight=0.0, weighting="huber"),
    RewardWeighted(kl_weight=0.1, num_times=2),
    GRPOGuard(num_updates=1),
    FlowDPPO(num_updates=1),
    DDPO(),
    DDPO(surrogate="score"),
    PPO(),
    PPO(surrogate="clip", kl_weight=0.1),
    FlowGRPO(num_updates=1, noise_weight=True),
    TRPO(),
    DGPO(num_times=2),
    DPO(beta=10.0, noising=Noising(num_times=2)),
    DPO(beta=1.0, loss="ipo"),
    DPO(beta=0.1, loss="hinge", noising=Noising(error="noise")),
    DPO(beta=10.0, loss="calibrated", pair="fronts", refresh=3),
    DSPO(),
    MaPO(margin_scale=10.0),
    KTO(beta=10.0, judged="group"),
    KTO(beta=1.0, judged="group", utility="loss_averse", offset="none"),
    D3PO(clip=0.9),
    D3PO(beta=10.0, clip=0.9, least_gap=0.01),
]


def test_every_registered_algorithm_has_a_case():
    """What no denoiser can be trained by has its own in test_surrogate_gradient.py."""
    registered = {find(names.ALGORITHMS, "algorithm", name) for name in names.ALGORITHMS}
    assert registered - {SurrogateGradient} == {type(a) for a in ALGORITHMS}


def context(micro_batch: int = 100, step: int = 0) -> Context:
    return Context(Rng(("update", step)), step, micro_batch)


def setting(algorithm, rank: int = 2, dtype=torch.float32):
    """Return actors whose policy moved a little from the weights that drew the rollout, the rollout, and parameters."""
    model = toy_denoiser(rank, dtype=dtype)
    dynamics = FlowSDE(0.7) if algorithm.needs.path else EulerODE()
    frozen = Sampler(dynamics, steps=5).policy(model.with_networks({"network": copy.deepcopy(model.network)}))
    policy = Sampler(dynamics, steps=5).policy(model)
    rollout = toy_rollout(policy, record=algorithm.needs.path)
    return Actors(policy, frozen, frozen), rollout, list(model.network.parameters())


def gradient(algorithm, actors, rollout, advantage, parameters, micro_batch: int = 100):
    for p in parameters:
        p.grad = torch.zeros_like(p)
    steps = list(optimizer_steps(algorithm, actors, Batch(rollout, advantage), context(micro_batch)))
    outputs = [share for step in steps for share in step.shares(step.size)]
    for output in outputs:
        output.loss.backward()
    if outputs:
        assert len(steps) == algorithm.num_updates
        assert sum(step.size for step in steps) == sum(o.metrics["weight"] for o in outputs)
    return torch.cat([p.grad.flatten().clone() for p in parameters]), sum(float(o.loss) for o in outputs)


@pytest.mark.parametrize("rank", range(6))
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_positive_advantage_makes_a_sample_likelier(algorithm, rank):
    """One small step along the gradient: log-probability rises, or the restoration error falls, where A > 0."""
    if hasattr(algorithm, "kl_weight"):
        algorithm = replace(algorithm, kl_weight=0.0)
    actors, rollout, parameters = setting(algorithm, rank)
    batch = praise(rollout, algorithm.needs.pairs)
    grad, loss = gradient(algorithm, actors, rollout, batch.advantage, parameters)
    assert torch.isfinite(grad).all() and grad.abs().max() > 0
    before = quality(algorithm, actors, rollout, context())
    step_along([p.grad for p in parameters], parameters, 1e-2)
    assert quality(algorithm, actors, rollout, context()) > before


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_what_it_logs_has_a_meaning(algorithm):
    actors, rollout, parameters = setting(algorithm)
    batch = praise(rollout, algorithm.needs.pairs)
    logged = set(losses(algorithm, actors, batch, context())[0].metrics) - {"weight"}
    if algorithm.needs.own_update:
        logged |= algorithm.update(actors, parameters, praise(rollout), context()).keys() - {"grad_norm"}
    assert logged and logged <= HEALTH.keys()


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_zero_advantage_gives_no_step(algorithm):
    actors, rollout, parameters = setting(algorithm)
    assert list(optimizer_steps(algorithm, actors, Batch(rollout, torch.zeros(12)), context())) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_rewards_far_from_zero_teach_the_same(algorithm):
    """Near 1.7e9 float32 would tell no two of these apart; what weighs losses is float32 all the same."""
    _, rollout, _ = setting(algorithm)
    total = torch.randint(0, 5, (12,), generator=torch.Generator().manual_seed(0)).double()
    near, far = (
        credited(scored, algorithm.advantage(scored, context())).advantage
        for scored in (Scored(rollout, {}, torch.ones(12, dtype=torch.bool), x) for x in (total, total + 1.7e9))
    )
    assert near.abs().max() > 0.1 and near.dtype == torch.float32
    torch.testing.assert_close(far, near, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_the_result_does_not_depend_on_the_micro_batch(algorithm):
    actors, rollout, parameters = setting(algorithm)
    advantage = torch.randn(12, generator=torch.Generator().manual_seed(1))
    whole, loss = gradient(algorithm, actors, rollout, advantage, parameters)
    for size in (1, 5):
        part, part_loss = gradient(algorithm, actors, rollout, advantage, parameters, size)
        assert torch.allclose(part, whole, atol=1e-6, rtol=1e-4) and abs(loss - part_loss) < 1e-5


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_permuting_the_batch_permutes_nothing_else(algorithm):
    actors, rollout, parameters = setting(algorithm)
    advantage = torch.randn(12, generator=torch.Generator().manual_seed(1))
    before, _ = gradient(algorithm, actors, rollout, advantage, parameters)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    shuffled = permuted(rollout, order)
    after, _ = gradient(algorithm, actors, shuffled, advantage[order], parameters)
    assert torch.allclose(before, after, atol=1e-6, rtol=1e-4)


def permuted(rollout, order):
    from limner.core.tree import select

    return replace(
        rollout, group=rollout.group[order], prompt_index=rollout.prompt_index[order], sample=rollout.sample[order],
        id=rollout.id[order], trajectory=None if rollout.trajectory is None else select(rollout.trajectory, order),
    )  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_the_gradient_is_that_of_the_loss(algorithm):
    """Finite differences in float64 at weights away from the old ones (for NFT without its detached weight)."""
    if isinstance(algorithm, DiffusionNFT):
        algorithm = replace(algorithm, adaptive=False)
    elif isinstance(algorithm, DGPO):
        algorithm = replace(algorithm, beta=1e-9)  # its weight has no gradient: here it is 1/2 everywhere
    elif isinstance(algorithm, AWM):
        algorithm = replace(algorithm, num_updates=2)  # with one, its ratio is 1 whatever the weights
    elif isinstance(algorithm, FlowDPPO):
        algorithm = replace(algorithm, kl_limit=1e3)
    elif isinstance(algorithm, KTO):
        algorithm = replace(algorithm, offset="none")  # the mean gain has no gradient
    elif isinstance(algorithm, FlowGRPO | GRPOGuard | DDPO | PPO):
        algorithm = replace(algorithm, clip_low=10.0, clip_high=10.0)  # wide open: no kink near the point
    actors, rollout, parameters = setting(algorithm, rank=1, dtype=torch.float64)
    with torch.no_grad():
        torch._foreach_add_(parameters, 0.01)
    advantage = torch.randn(12, generator=torch.Generator().manual_seed(1)).double()
    grad, _ = gradient(algorithm, actors, rollout, advantage, parameters)
    flat = [(p, i) for p in parameters for i in range(p.numel())]
    for k in range(0, len(flat), 4):
        p, i = flat[k]
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                p.view(-1)[i] += sign * 1e-5
                values.append(
                    sum(float(o.loss) for o in losses(algorithm, actors, Batch(rollout, advantage), context()))
                )
                p.view(-1)[i] -= sign * 1e-5
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(grad[k]), rel=1e-3, abs=1e-8)


def test_penalties_carry_gradient():
    for algorithm in (FlowGRPO(kl_weight=1e6, num_updates=1), DiffusionNFT(kl_weight=1e6)):
        actors, rollout, parameters = setting(algorithm)
        with torch.no_grad():
            torch._foreach_add_(parameters, 0.1)
        advantage = torch.full((12,), 1e-3)
        grad, _ = gradient(algorithm, actors, rollout, advantage, parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, [p.grad for p in parameters], alpha=-1e-3 / float(grad.norm()))
        moved = torch.cat([p.flatten() for p in parameters])
        reference = torch.cat([p.flatten() for p in actors.reference.model.network.parameters()])
        assert ((moved - reference).norm() < 0.1 * len(moved) ** 0.5).item()


def test_a_penalty_by_time_is_that_of_the_published_code():
    """|difference of means|^2 / (2 S^2) per element, S = .7 sqrt(t / (1 - t)), with the second grid point for t = 1."""
    algorithm = FlowGRPO(num_updates=1, kl_weight=0.3, kl_by_time=True, clip_low=10.0, clip_high=10.0)
    actors, rollout, parameters = setting(algorithm)
    with torch.no_grad():
        torch._foreach_add_(parameters, 0.05)
        pack = next(actors.policy.pack(rollout, torch.arange(12), 100))
        mine, theirs = (p.distribution(pack, rollout.condition).mean for p in (actors.policy, actors.reference))
        t = pack.state.t.clamp(max=float(actors.policy.times()[1]))
        penalty = (mine - theirs).square().flatten(1).mean(1) / (2 * 0.7**2 * pack.state.t / (1 - t))
        advantage = torch.full((12,), 1e-9)
        found = sum(float(o.loss) for o in losses(algorithm, actors, Batch(rollout, advantage), context()))
    assert found == pytest.approx(0.3 * float(penalty.mean()), rel=1e-4, abs=1e-8) and found > 5e-5


def test_nft_on_policy_takes_one_pass_for_both_policies():
    """The same gradient as with old weights that equal the trained ones, and the old policy is never asked."""
    two, one = DiffusionNFT(kl_weight=0.0), DiffusionNFT(kl_weight=0.0, decay="none")
    assert two.needs.old and not one.needs.old and replace(one, num_updates=2).needs.old
    actors, rollout, parameters = setting(two)
    advantage = torch.randn(12, generator=torch.Generator().manual_seed(1))
    both, loss = gradient(two, actors, rollout, advantage, parameters)
    shared, shared_loss = gradient(one, replace(actors, old=None), rollout, advantage, parameters)
    assert torch.allclose(shared, both, atol=1e-7) and shared_loss == pytest.approx(loss) and both.abs().max() > 0


@pytest.mark.parametrize("weighting", ["uniform", "t", "t2"])
def test_awm_is_the_policy_gradient_of_the_elbo(weighting):
    """At the first update the gradient is that of the mean of A w(t) |v - (noise - x0)|^2 / D, ratio or not."""
    algorithm = AWM(weighting=weighting, kl_weight=0.0, num_times=3)
    actors, rollout, parameters = setting(algorithm, dtype=torch.float64)
    advantage = torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grad, _ = gradient(algorithm, actors, rollout, advantage, parameters)
    pack = next(actors.policy.renoise(rollout, torch.arange(12), algorithm.needs.renoise, context().rng, 99))
    v = actors.policy.model.predict(pack.state, pack.t, rollout.condition, pack.prompt_index)
    error = (v - pack.noise + pack.x0).square().flatten(1).mean(1)
    w = {"uniform": 1.0, "t": pack.t, "t2": pack.t**2}[weighting]
    expected = torch.autograd.grad((advantage[pack.row] * w * error).mean(), parameters, allow_unused=True)
    expected = torch.cat(
        [torch.zeros(p.numel()) if g is None else g.flatten() for p, g in zip(parameters, expected, strict=True)]
    )
    assert torch.allclose(grad, expected, rtol=1e-6, atol=1e-12)


def test_awm_compares_with_the_weights_that_drew():
    """With several updates the old likelihood is that of `actors.old`; rho follows by hand from two matching errors."""
    algorithm = AWM(weighting="t", kl_weight=0.0, num_times=1, num_updates=2, clip_low=0.5, clip_high=0.5)
    assert algorithm.needs.old and not AWM(kl_weight=0.0).needs.old
    actors, rollout, parameters = setting(algorithm)
    with torch.no_grad():
        torch._foreach_add_(parameters, 0.05)
    advantage = torch.full((12,), 0.3)
    for output in losses(algorithm, actors, Batch(rollout, advantage), context()):
        assert float(output.loss) != pytest.approx(-0.3, abs=1e-3)  # rho is not 1
    for update, rows in enumerate(partition(torch.arange(12), 2, context().rng.child("updates"))):
        pack = next(actors.policy.renoise(rollout, rows, algorithm.needs.renoise, context().rng, 99))

        def error(policy, pack=pack):
            v = policy.model.predict(pack.state, pack.t, rollout.condition, pack.prompt_index)
            return (v - pack.noise + pack.x0).square().flatten(1).mean(1)

        rho = (pack.t * (error(actors.old) - error(actors.policy))).exp()
        expected = torch.maximum(-0.3 * rho, -0.3 * rho.clamp(0.5, 1.5)).mean()
        found = losses(algorithm, actors, Batch(rollout, advantage), context())[update].loss
        assert float(found) == pytest.approx(float(expected), rel=1e-5)


def decisions_by_hand(actors, rollout):
    """Return all decisions in one pack, and for each the move of its mean, the noise drawn, and the std."""
    pack = next(actors.policy.pack(rollout, torch.arange(12), 999))
    new, old = actors.policy.distribution(pack, rollout.condition), pack.old
    std = old.std.view(-1, *(1,) * (old.mean.ndim - 1))
    return pack, (new.mean - old.mean).flatten(1), ((pack.choice - old.mean) / std).flatten(1), old.std


def test_guard_by_hand():
    """rho = exp(mean d n) and the loss over the step's length, from the means and the noise that was drawn."""
    algorithm = GRPOGuard(clip_low=1e-7, clip_high=1e-7, num_updates=1)
    actors, rollout, parameters = setting(algorithm)
    with torch.no_grad():
        torch._foreach_add_(parameters, 0.05)
        pack, d, n, _ = decisions_by_hand(actors, rollout)
        rho, clip = (d * n).mean(1).exp(), 1e-7 * 65_536 / d.shape[1]
        advantage = torch.randn(12, generator=torch.Generator().manual_seed(1))
        a = advantage[pack.row]
        by_hand = torch.maximum(-a * rho, -a * rho.clamp(1 - clip, 1 + clip)) / (pack.state.t - pack.state.s)
        found = sum(float(o.loss) for o in losses(algorithm, actors, Batch(rollout, advantage), context()))
    assert ((rho - 1).abs() > clip).any() and found == pytest.approx(float(by_hand.mean()), rel=1e-4)


def test_the_noise_weight_is_the_std_over_its_mean():
    """The loss of each decision by hand; for a full path the mean is that of the sampler's schedule."""
    actors, rollout, parameters = setting(FlowGRPO())
    advantage = torch.randn(12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        pack, d, n, std = decisions_by_hand(actors, rollout)
        batch = Batch(rollout, advantage)
        plain, _ = FlowGRPO().pass_loss(actors, batch, pack)
        weighted, _ = FlowGRPO(noise_weight=True).pass_loss(actors, batch, pack)
    torch.testing.assert_close(weighted, plain * std / std.mean())
    assert std.max() > 1.5 * std.min()


def test_dgpo_by_hand():
    """One (t, noise) a group; w from the errors of policy and reference; constant and invalid rows stay out."""
    algorithm = DGPO(beta=30.0, num_times=2)
    actors, rollout, parameters = setting(algorithm)
    with torch.no_grad():
        torch._foreach_add_(parameters, 0.05)
        advantage = torch.randn(12, generator=torch.Generator().manual_seed(1))
        advantage[8:] = 0  # the third group
        advantage[1] = 0  # one that was not judged
        pack = next(actors.policy.renoise(rollout, torch.arange(12), algorithm.needs.renoise, context().rng, 99))
        noise = pack.noise.view(3, 4, 2, -1)
        assert torch.equal(noise[:, 0], noise[:, 3]) and not torch.equal(noise[0], noise[1])

        def error(policy):
            v = policy.model.predict(pack.state, pack.t, rollout.condition, pack.prompt_index)
            return (v - pack.noise + pack.x0).square().flatten(1).mean(1).view(3, 4, 2)

        new, a = error(actors.policy), advantage.view(3, 4, 1)
        w = torch.sigmoid(30.0 * (a * (new - error(actors.reference))).sum(1, keepdim=True) / 4)
        expected = (w * a * new)[:2].sum() / (7 * 2)
        found = sum(float(o.loss) for o in losses(algorithm, actors, Batch(rollout, advantage), context()))
    assert found == pytest.approx(float(expected), rel=1e-4) and (w[:2] - 0.5).abs().min() > 1e-3


def test_a_reward_can_be_the_weight():
    """L = mean_i r_i |v - (noise - x0_i)|^2 / D over samples that were judged and have a reward other than 0."""
    algorithm = RewardWeighted(weight="reward", num_times=2)
    actors, rollout, _ = setting(algorithm)
    total = torch.linspace(0, 2, 12)
    total[5] = torch.nan
    scored = Scored(rollout, {}, total.isfinite(), total)
    advantage = algorithm.advantage(scored, context())
    assert torch.equal(advantage, total.nan_to_num(0.0))
    with torch.no_grad():
        rows = advantage.nonzero()[:, 0]
        pack = next(actors.policy.renoise(rollout, rows, algorithm.needs.renoise, context().rng, 99))
        error = (actors.policy.restore(pack, rollout.condition).velocity - pack.noise + pack.x0).square()
        expected = (total[pack.row] * error.flatten(1).mean(1)).mean()
        found = sum(float(o.loss) for o in losses(algorithm, actors, Batch(rollout, advantage), context()))
    assert len(rows) == 10 and found == pytest.approx(float(expected), rel=1e-5)


def test_flow_dppo_by_hand():
    """KL = mean d^2 / (2 std^2); beyond the limit only decisions on their way back count."""
    algorithm = FlowDPPO(num_updates=1)
    actors, rollout, parameters = setting(algorithm)
    with torch.no_grad():
        torch._foreach_add_(parameters, 0.02)
        pack, d, n, std = decisions_by_hand(actors, rollout)
        kl = d.square().mean(1) / (2 * std**2)
        limit = 1.001 * float(kl.median())
        algorithm = replace(algorithm, kl_limit=limit * d.shape[1] / 65_536)
        log_ratio = (d * n).mean(1) / std - kl
        advantage = torch.randn(12, generator=torch.Generator().manual_seed(1))
        a = advantage[pack.row]
        counts = (kl < limit) | (a * log_ratio <= 0)
        found = sum(float(o.loss) for o in losses(algorithm, actors, Batch(rollout, advantage), context()))
    assert 0 < counts.sum() < len(counts)
    assert found == pytest.approx(float((-a * log_ratio.exp() * counts).mean()), rel=1e-4)


def test_the_clip_band_stays_in_nats():
    low, high = FlowGRPO(clip_low=1e-4, clip_high=2e-4).needs.clip.per_element(512)
    assert low * 512 == pytest.approx(6.5536) if low < 0.9 else low == 0.9
    assert high == pytest.approx(2e-4 * 128)


def test_nft_old_policy_follows_at_the_published_distance():
    old = DiffusionNFT().needs.old
    assert [old.decay(i) for i in (0, 100, 1000)] == [0.0, pytest.approx(0.1), 0.5]
    assert DiffusionNFT(decay="none", num_updates=2).needs.old.decay(500) == 0.0
