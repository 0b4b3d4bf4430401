"""What published codes do otherwise, as options: each by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from algorithms.test_contract import context, decisions_by_hand, setting
from algorithms.test_tokens import WORDS
from limner.algorithms.awm import AWM
from limner.algorithms.d3po import D3PO
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.grpo_guard import GRPOGuard
from limner.core.errors import UserError
from limner.core.protocols import Actors
from limner.core.types import Batch, Scored
from limner.diffusion.dynamics import DDIM
from limner.diffusion.gaussian import Gaussian
from limner.learning.credit import credited
from limner.learning.passes import teaching
from limner.learning.ratio import log_ratio_of
from limner.recipes.named import recipe
from limner.recipes.presets import with_preset
from toys import Bigrams, ToyTokens, losses, toy_denoiser, toy_rollout

ADVANTAGE = torch.randn(12, generator=torch.Generator().manual_seed(1))


def moved(algorithm):
    """Return actors whose trained weights are moved, a rollout, and its decisions in one pack."""
    actors, rollout, parameters = setting(algorithm)
    with torch.no_grad():
        torch._foreach_add_(parameters, 0.05)
        return actors, rollout, *decisions_by_hand(actors, rollout)


def test_neutral_samples_hold_the_policy_at_the_old_one():
    """The first group is all alike, and a sample of the second is invalid: with `neutral` it alone is left out.

    The loss of a neutral sample is that of r = 1/2: A_max / beta (l+ + l-) / 2.
    """
    algorithm = DiffusionNFT(kl_weight=0.0, num_times=2, adaptive=False, beta=0.5, neutral=True)
    actors, rollout, _ = setting(algorithm)
    valid = torch.ones(12, dtype=torch.bool)
    valid[5] = False
    scored = Scored(rollout, {}, valid, torch.tensor([1.0] * 4 + [0.0, math.nan, 3.0, 4.0] + [1.0, 2.0, 3.0, 4.0]))
    left, batch = (
        credited(scored, replace(algorithm, neutral=neutral).advantage(scored, context())) for neutral in (False, True)
    )
    assert teaching(left).tolist() == [4, 6, 7, 8, 9, 10, 11]
    assert teaching(batch).tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    torch.testing.assert_close(batch.advantage[4:], left.advantage[4:], rtol=0, atol=0)
    with torch.no_grad():
        pack = next(actors.policy.renoise(rollout, torch.arange(4), algorithm.needs.renoise, context().rng, 99))
        loss, _ = algorithm.pass_loss(actors, batch, pack)
        new, old = (each.restore(pack, rollout.condition).x0 for each in (actors.policy, actors.old))
        sides = [(old + side * 0.5 * (new - old) - pack.x0).square().flatten(1).mean(1) for side in (1, -1)]
    torch.testing.assert_close(loss, 5 / 0.5 * (sides[0] + sides[1]) / 2)


def test_the_old_policy_follows_by_iterations_or_by_updates():
    """After iteration i with two updates, the published count is 2 (i + 1): .002, .004 and then .5 at most."""
    by_iteration, by_update = (DiffusionNFT(decay_by=by, num_updates=2).needs.old for by in ("iteration", "update"))
    assert [by_iteration.decay(i) for i in (0, 1, 600)] == [0.0, 0.001, 0.5]
    assert [by_update.decay(i) for i in (0, 1, 600)] == [0.002, 0.004, 0.5]
    assert DiffusionNFT(decay_by="update").needs.old.decay(0) == 0.001


def test_a_ratio_of_distances_by_hand():
    """|c - m_old|^2 - |c - m|^2: from 1 to 2 of means 0 and 1.5, 4 - .25, whatever the std; and nothing for tokens."""
    one = torch.ones(1)
    new, old = Gaussian(torch.tensor([[1.5, 0.0]]), 0.3 * one), Gaussian(torch.zeros(1, 2), 0.3 * one)
    choice = torch.tensor([[2.0, 1.0]])
    assert new.distance_ratio(old, choice).item() == pytest.approx(4 - 0.25)
    assert new.log_ratio(old, choice).item() == pytest.approx((4 - 0.25) / (2 * 0.09))
    algorithm = FlowGRPO(num_updates=1, ratio="distance", clip_low=1e-5, clip_high=1e-5)
    assert algorithm.needs.clip.of == "distance"
    actors, rollout, pack, d, n, std = moved(algorithm)
    mean = d - n * std[:, None]  # of the present weights, seen from the choice
    rho = ((n * std[:, None]).square().mean(1) - mean.square().mean(1)).exp()
    a, clip = ADVANTAGE[pack.row], 1e-5 * 65_536 / d.shape[1]
    by_hand = torch.maximum(-a * rho, -a * rho.clamp(1 - min(clip, 1), 1 + clip)).mean()
    with torch.no_grad():
        found = sum(float(o.loss) for o in losses(algorithm, actors, Batch(rollout, ADVANTAGE), context()))
    assert found == pytest.approx(float(by_hand), rel=1e-4)


def test_pso_learns_the_three_decisions_of_four_steps():
    """-log sigmoid(50 (u^w - u^l)) of the log-ratios per element, cut off at log(1 -+ .1); ancestral steps."""
    config = with_preset(recipe("scenes"), "pso")
    assert config.algorithm == D3PO(beta=50.0, clip=0.1) and config.sampler.dynamics == DDIM(1.0)
    new, old = (config.sampler.policy(toy_denoiser(2)) for _ in range(2))
    with torch.no_grad():
        torch._foreach_add_(list(old.model.network.parameters()), 0.15)
    rollout = toy_rollout(new)
    path, word = rollout.path, {"word": rollout.condition["word"][:1]}
    assert path.mask.tolist() == [[True] * 3] * 12

    def distance(policy, row, k):
        """|choice - mean|^2 / D, with the mean of an ancestral step: alpha(s) x0 + sqrt(sigma(s)^2 - std^2) noise."""
        x, t, s = (part[row, k][None] for part in (path.states.x, path.states.t, path.states.s))
        v = policy.model.predict(x, t, word, torch.tensor([0]))
        mean = (1 - s) * (x - t * v) + (s**2 - path.old.std[row, k] ** 2).clamp(min=0).sqrt() * (x + (1 - t) * v)
        return (path.choices[row, k] - mean).square().mean()

    def log_ratio(row, k):
        moved = (distance(old, row, k) - distance(new, row, k)) / (2 * path.old.std[row, k] ** 2)
        return moved.clamp(math.log(0.9), math.log(1.1))

    with torch.no_grad():
        by_hand = [-torch.nn.functional.logsigmoid(50 * (log_ratio(1, k) - log_ratio(3, k))) for k in range(3)]
        batch = Batch(rollout, torch.tensor([0.0, 1.0, 0.0, -1.0] + [0.0] * 8))
        (share,) = losses(config.algorithm, Actors(new, old, old), batch, context())
    assert float(share.loss) == pytest.approx(sum(map(float, by_hand)) / 3, rel=1e-4)


def test_tokens_have_no_distance():
    policy = ToyTokens(Bigrams())
    rollout = toy_rollout(policy, condition=WORDS)
    pack = next(policy.pack(rollout, torch.arange(12), 99))
    with pytest.raises(UserError, match="ratio distance is one of Gaussian decisions"):
        log_ratio_of(policy.distribution(pack, rollout.condition), pack, "distance")


def test_a_penalty_by_k3_by_hand():
    """r = log p_ref(c) - log p(c) in nats, and kl_weight (e^r - 1 - r) / D is added to each decision's loss."""
    algorithm = FlowGRPO(num_updates=1, kl_weight=0.3, kl="k3")
    actors, rollout, pack, d, n, std = moved(algorithm)
    batch = Batch(rollout, ADVANTAGE)
    with torch.no_grad():
        plain, _ = replace(algorithm, kl_weight=0.0).pass_loss(actors, batch, pack)
        found, health = algorithm.pass_loss(actors, batch, pack)
        exact, _ = replace(algorithm, kl="exact").pass_loss(actors, batch, pack)
    # The reference is the old policy here: r = -log ratio = |d - n std|^2 / (2 std^2) - |n|^2 / 2.
    r = ((d / std[:, None] - n).double().square().sum(1) - n.double().square().sum(1)) / 2
    by_hand = r.exp() - 1 - r
    torch.testing.assert_close(health["kl"].double(), by_hand, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close((found - plain).double(), 0.3 * by_hand / d.shape[1], rtol=1e-3, atol=1e-6)
    assert (found - exact).abs().max() > 1e-6


def test_a_penalty_of_grpo_guard_by_hand():
    """kl_weight |mean - mean_ref|^2 / (2 std^2 D), beside the loss and not over the step's length."""
    algorithm = GRPOGuard(num_updates=1, kl_weight=0.2)
    assert algorithm.needs.reference and not GRPOGuard().needs.reference
    actors, rollout, pack, d, _, std = moved(algorithm)
    batch = Batch(rollout, ADVANTAGE)
    with torch.no_grad():
        plain, _ = GRPOGuard(num_updates=1).pass_loss(actors, batch, pack)
        found, _ = algorithm.pass_loss(actors, batch, pack)
    torch.testing.assert_close(found - plain, 0.2 * d.square().mean(1) / (2 * std**2), rtol=1e-3, atol=1e-6)


def test_a_penalty_of_awm_by_noise_by_hand():
    """1 / (2 S^2) of S = .7 sqrt(t / (1 - min(t, .99))) times the mean squared difference of velocities."""
    algorithm = AWM(kl_weight=0.5, kl_by_noise=True, num_times=2)
    actors, rollout, parameters = setting(algorithm)
    with torch.no_grad():
        torch._foreach_add_(parameters, 0.05)
        pack = next(actors.policy.renoise(rollout, torch.arange(12), algorithm.needs.renoise, context().rng, 99))
        plain, _ = replace(algorithm, kl_weight=0.0).pass_loss(actors, Batch(rollout, ADVANTAGE), pack)
        found, _ = algorithm.pass_loss(actors, Batch(rollout, ADVANTAGE), pack)
        new, old = (each.restore(pack, rollout.condition).velocity for each in (actors.policy, actors.reference))
    noise = [0.7 * (t / (1 - min(t, 0.99))) ** 0.5 for t in pack.t.tolist()]
    weight = torch.tensor([1 / (2 * s**2) for s in noise])
    distance = (new - old).square().flatten(1).mean(1)
    torch.testing.assert_close(found - plain, 0.5 * weight * distance, rtol=1e-4, atol=1e-6)


def test_presets_set_what_the_codes_set():
    nft = with_preset(recipe("scenes"), "diffusion_nft").algorithm
    assert nft.neutral and nft.needs.old.decay(0) == 0.001 and nft.needs.renoise.num_times == 9 and nft.min_time == 0
    grpo = with_preset(recipe("scenes"), "flow_grpo_sd3")
    assert (grpo.sampler.guidance, grpo.group_size, grpo.model.settings.resolution) == (4.5, 24, 512)
    assert grpo.algorithm == with_preset(recipe("scenes"), "flow_grpo").algorithm
    assert with_preset(recipe("scenes"), "flow_cps").algorithm.ratio == "distance"
