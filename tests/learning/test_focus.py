"""A dense advantage: its sum rule, for every method that follows a path, and what refuses it."""

from __future__ import annotations

import copy

import pytest
import torch

from limner.algorithms.ddpo import DDPO
from limner.algorithms.flow_dppo import FlowDPPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.grpo_guard import GRPOGuard
from limner.algorithms.ppo import PPO
from limner.algorithms.trpo import TRPO
from limner.core.errors import UserError
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Batch, Scored
from limner.diffusion.dynamics import FlowSDE
from limner.learning.credit import credited
from limner.objectives.surrogate import praise_and_blame
from limner.policies.denoising import Sampler
from toys import losses, toy_denoiser, toy_rollout

FOLLOWERS = [
    FlowGRPO(num_updates=1), FlowGRPO(num_updates=1, ratio="distance", kl_weight=0.1, noise_weight=True),
    GRPOGuard(num_updates=1), FlowDPPO(num_updates=1), DDPO(), DDPO(surrogate="score"), PPO(), TRPO(),
]  # fmt: skip


def setting(moved: float = 0.0, rank: int = 3, **sampler: object):
    model = toy_denoiser(rank, dtype=torch.float64)
    frozen = Sampler(FlowSDE(), 4, **sampler).policy(model.with_networks({"network": copy.deepcopy(model.network)}))
    policy = Sampler(FlowSDE(), 4, **sampler).policy(model)
    rollout = toy_rollout(policy)
    with torch.no_grad():
        torch._foreach_add_(list(model.network.parameters()), moved)
    return Actors(policy, frozen, frozen), rollout, list(model.network.parameters())


def learned(algorithm, actors, rollout, advantage, parameters):
    """Return loss and gradient of an iteration."""
    outputs = losses(algorithm, actors, Batch(rollout, advantage), Context(Rng(("x",)), 0, 7))
    loss = sum(output.loss for output in outputs)
    grads = torch.autograd.grad(loss, parameters)
    return loss.item(), torch.cat([grad.flatten() for grad in grads])


def scalar(seed: int = 1) -> torch.Tensor:
    return torch.randn(12, generator=torch.Generator().manual_seed(seed)).double()


def maps(seed: int = 2, shape: tuple[int, ...] = (3, 2, 2)) -> torch.Tensor:
    found = torch.rand(12, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return found / found.flatten(1).mean(1)[:, None, None, None]


@pytest.mark.parametrize("moved", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("algorithm", FOLLOWERS, ids=str)
def test_a_map_of_ones_is_the_scalar_method(algorithm, moved: float) -> None:
    """Loss and gradient, on policy, inside the clip's band, and beyond it; whichever axes the map has."""
    actors, rollout, parameters = setting(moved)
    advantage = scalar()
    loss, gradient = learned(algorithm, actors, rollout, advantage, parameters)
    for shape in ((3, 2, 2), (1, 2, 1), (1, 1, 1)):
        dense = advantage.view(12, 1, 1, 1, 1).expand(12, 1, *shape)
        found, moves = learned(algorithm, actors, rollout, dense, parameters)
        assert found == pytest.approx(loss, rel=1e-10, abs=1e-12)
        torch.testing.assert_close(moves, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("algorithm", FOLLOWERS, ids=str)
def test_a_map_of_mean_one_moves_credit_and_makes_none(algorithm) -> None:
    """At a ratio of 1 the loss is the scalar one's (but DDPO's score, whose loss is 0 there), the gradient another."""
    actors, rollout, parameters = setting()
    advantage = scalar()
    loss, gradient = learned(algorithm, actors, rollout, advantage, parameters)
    dense = (advantage.view(12, 1, 1, 1) * maps())[:, None]
    found, moves = learned(algorithm, actors, rollout, dense, parameters)
    assert found == pytest.approx(loss, rel=1e-10, abs=1e-12)
    assert (moves - gradient).norm() > 0.05 * gradient.norm()


@pytest.mark.parametrize("algorithm", [FOLLOWERS[0], FOLLOWERS[5], FOLLOWERS[7]], ids=str)
def test_the_gradient_is_that_of_the_advantage_of_each_element(algorithm) -> None:
    """-mean over decisions and elements of A(p) log p(x_p), by torch's own density; praise and blame in one sample."""
    actors, rollout, parameters = setting()
    dense = torch.randn(12, 1, 3, 2, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    _, gradient = learned(algorithm, actors, rollout, dense, parameters)
    pack = next(actors.policy.pack(rollout, torch.arange(12), 99))
    drawn = actors.policy.distribution(pack, rollout.condition)
    std = drawn.std.view(-1, 1, 1, 1)
    density = torch.distributions.Normal(drawn.mean, std).log_prob(pack.choice)
    share = 12 if isinstance(algorithm, TRPO) else 1  # nats of the whole latent, not per element
    expected = torch.autograd.grad(-share * (dense[pack.row, 0] * density).mean(), parameters)
    torch.testing.assert_close(gradient, torch.cat([each.flatten() for each in expected]), rtol=1e-6, atol=1e-10)


def test_the_gradient_of_a_mixed_advantage_is_that_of_its_loss() -> None:
    """Finite differences away from the old weights, with the band wide open and a penalty."""
    algorithm = FlowGRPO(num_updates=1, clip_low=10.0, clip_high=10.0, kl_weight=0.1)
    actors, rollout, parameters = setting(0.05)
    dense = torch.randn(12, 4, 1, 2, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    _, gradient = learned(algorithm, actors, rollout, dense, parameters)
    flat = [(p, i) for p in parameters for i in range(p.numel())]
    for k in range(0, len(flat), 9):
        p, i = flat[k]
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                p.view(-1)[i] += sign * 1e-5
                outputs = losses(algorithm, actors, Batch(rollout, dense), Context(Rng(("x",)), 0, 7))
                values.append(sum(output.loss.item() for output in outputs))
                p.view(-1)[i] -= sign * 1e-5
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(gradient[k]), rel=1e-3, abs=1e-8)


def test_praise_and_blame_add_up() -> None:
    dense = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    dense[1], dense[2], dense[3] = dense[1].abs(), -dense[2].abs(), 0
    parts = praise_and_blame(dense)
    torch.testing.assert_close(sum(a[:, None, None] * w for a, w in parts), dense)
    for amount, weight in parts:
        torch.testing.assert_close(weight[amount != 0].flatten(1).mean(1), torch.ones(int((amount != 0).sum())))
    assert [len(praise_and_blame(x)) for x in (dense, dense[1:2], dense[2:3], dense[3:4])] == [2, 1, 1, 1]


def test_a_shared_decision_has_the_mean_of_its_branches_maps() -> None:
    """In a tree; where none is shared, decisions of invalid samples are masked, and the advantage stays as it is."""
    actors, _, _ = setting(rank=3, splits=(0, 1))
    tree = toy_rollout(actors.policy, 2, 4)
    dense = torch.randn(8, 1, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    valid = torch.ones(8, dtype=torch.bool)
    found = credited(Scored(tree, {}, valid, torch.zeros(8)), dense).advantage
    first = dense[:, 0].unflatten(0, (4, 2)).mean(1).repeat_interleave(2, 0).float()
    torch.testing.assert_close(found[:, 0], first)
    torch.testing.assert_close(found[:, 2], dense[:, 0].float())


def test_an_algorithm_that_knows_nothing_of_places_is_refused() -> None:
    class Own(FlowGRPO):
        def pass_loss(self, actors, batch, pack):
            ratio = actors.policy.distribution(pack, batch.rollout.condition).log_ratio(pack.old, pack.choice)
            return -batch.decision_advantage(pack) * ratio.view(-1, 1, 1, 1), {}

    actors, rollout, parameters = setting()
    with pytest.raises(UserError, match="pass_loss gave a loss of shape .*one number each; under a focus"):
        learned(Own(num_updates=1), actors, rollout, maps()[:, None], parameters)
