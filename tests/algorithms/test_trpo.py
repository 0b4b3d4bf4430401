"""TRPO's step against the Fisher matrix, written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from limner.algorithms.trpo import TRPO
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Batch
from limner.diffusion.dynamics import FlowSDE
from limner.policies.denoising import Sampler
from toys import toy_denoiser, toy_rollout


def case():
    policy = Sampler(FlowSDE(), steps=5).policy(toy_denoiser(1, dtype=torch.float64))
    rollout = toy_rollout(policy)
    advantage = torch.randn(12, generator=torch.Generator().manual_seed(1)).double()
    return Actors(policy, policy, policy), Batch(rollout, advantage), list(policy.model.network.parameters())


def context(micro_batch=100):
    return Context(Rng(("trpo",)), 0, micro_batch)


def moved(algorithm, micro_batch=100):
    actors, batch, parameters = case()
    before = torch.cat([p.detach().reshape(-1).clone() for p in parameters])
    health = algorithm.update(actors, parameters, batch, context(micro_batch))
    return torch.cat([p.detach().reshape(-1) for p in parameters]) - before, health


def test_the_step_is_the_natural_gradient():
    """F = mean of J' J / std^2 over decisions, J the Jacobian of a decision's mean; g as the mean of A J' n / std."""
    actors, batch, parameters = case()
    pack = next(actors.policy.pack(batch.rollout, torch.arange(12), 999))
    network = actors.policy.model.network
    names = [name for name, _ in network.named_parameters()]

    def means(*values):
        def call(*inputs):
            return torch.func.functional_call(network, dict(zip(names, values, strict=True)), inputs)

        policy = replace(actors.policy, model=_Model(actors.policy.model, call))
        return policy.distribution(pack, batch.rollout.condition).mean

    values = [p.detach() for p in parameters]
    jacobian = torch.autograd.functional.jacobian(means, tuple(values))
    jacobian = torch.cat([part.reshape(len(pack), 3, -1) for part in jacobian], 2)
    std = pack.old.std[:, None]
    noise = (pack.choice - pack.old.mean) / std
    fisher = torch.einsum("bdi,bdj->ij", jacobian / std[:, None], jacobian / std[:, None]) / len(pack)
    gradient = torch.einsum("b,bd,bdi->i", batch.advantage[pack.row], noise / std, jacobian) / len(pack)
    damped = fisher + 1e-3 * torch.eye(len(fisher))
    x = torch.linalg.solve(damped, gradient)
    expected = (2 * 1e-6 / (x @ damped @ x)) ** 0.5 * x
    step, health = moved(TRPO(kl_limit=1e-6, solver_steps=len(fisher)))
    assert health["step_share"] == 1
    torch.testing.assert_close(step, expected, rtol=1e-3, atol=1e-8)


class _Model:
    """A toy denoiser whose network is a function."""

    def __init__(self, model, network):
        self.model, self.network = model, network
        self.schedule, self.prediction = model.schedule, model.prediction

    def predict(self, x, t, condition, prompt_index):
        return self.network(x, t, condition["word"][prompt_index])


@pytest.mark.parametrize("limit", [1e-4, 1e-2])
def test_it_goes_as_far_as_it_may(limit):
    step, health = moved(TRPO(kl_limit=limit))
    assert 0.2 * limit < health["step_kl"] <= limit and health["improvement"] > 0 and step.any()
    again, _ = moved(TRPO(kl_limit=limit), micro_batch=7)
    torch.testing.assert_close(again, step)


def test_where_no_length_obeys_nothing_moves(monkeypatch):
    """A KL that is measured a nat too large."""
    pass_loss = TRPO.pass_loss

    def far(self, actors, batch, pack):
        loss, health = pass_loss(self, actors, batch, pack)
        return loss, health | {"step_kl": health["step_kl"] + 1}

    monkeypatch.setattr(TRPO, "pass_loss", far)
    actors, batch, parameters = case()
    before = [p.detach().clone() for p in parameters]
    health = TRPO().update(actors, parameters, batch, context())
    assert health["step_share"] == health["step_kl"] == health["improvement"] == 0
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    assert TRPO().update(actors, parameters, replace(batch, advantage=torch.zeros(12)), context()) == {}
