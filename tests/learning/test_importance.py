"""Weighted samples of earlier weights: on o4, all of whose sequences are summed over, and on Gaussian decisions."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from limner.algorithms.ddpo import DDPO
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.dpo import DPO
from limner.algorithms.flow_dppo import FlowDPPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.grpo_guard import GRPOGuard
from limner.algorithms.ppo import PPO
from limner.algorithms.trpo import TRPO
from limner.core.errors import UserError
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Batch, Prompt, Rollout, Trajectory
from limner.diffusion.dynamics import FlowSDE
from limner.learning.importance import as_drawn_now, require_weighable
from limner.learning.passes import optimizer_steps
from limner.objectives.categorical import Categorical
from limner.objectives.importance import effective_share
from limner.policies.tokens import Autoregressive, TokenSampler, Written
from limner.worlds.oracle.tokens import CODES, LENGTH, TokenOracle, rewards, sequences
from oracle_case import policy as gaussian_policy

ALL = sequences()


def writer(seed: int) -> Autoregressive:
    """A writer whose logits are drawn anew."""
    model = TokenOracle.load()
    table = deepcopy(model.networks["table"]).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in table.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return TokenSampler().policy(model.with_networks({"table": table}))


def logits(policy: Autoregressive) -> Tensor:
    """The logits of each token of every sequence, from the table's numbers."""
    table = policy.model.networks["table"]
    place, found = torch.zeros(len(ALL), dtype=torch.long), []
    for i in range(LENGTH):
        found.append(table.after[i][place] + table.prompt[0])
        place = CODES * place + ALL[:, i]
    return torch.stack(found, 1)


def log_probability(policy: Autoregressive) -> Tensor:
    return logits(policy).log_softmax(-1).gather(-1, ALL[..., None])[..., 0].sum(1)


def every_sequence(drawn_by: Tensor) -> Rollout:
    """All sequences once, as if drawn from these logits."""
    rows, everything = torch.arange(len(ALL)), torch.ones(ALL.shape)
    path = Trajectory(
        Written(ALL), everything, Categorical(drawn_by), everything.bool(), rows[:, None].expand(ALL.shape)
    )
    none = torch.zeros(len(ALL), dtype=torch.long)
    return Rollout([Prompt("a sequence")], none, none, {"row": torch.tensor([0, 1])}, ALL, path, rows, 0)


@pytest.mark.parametrize("most", [math.inf, 1.5])
def test_expectations_are_those_of_the_present_weights_but_for_truncation(most: float) -> None:
    now, before, worth = writer(0), writer(1), rewards().double()
    with torch.no_grad():
        p, q = (log_probability(each).exp() for each in (now, before))
        rollout, weight, health = as_drawn_now(every_sequence(logits(before)), now, most, 100)
    torch.testing.assert_close(weight, (p / q).clamp(max=most))
    lacking = (p - most * q).clamp(min=0) if most < math.inf else torch.zeros_like(p)
    error = ((p - q * weight) * worth).sum()
    torch.testing.assert_close(error, (lacking * worth).sum())
    assert -1e-12 < error <= worth.max() * lacking.sum() + 1e-12 and (error > 0.01) == (most < math.inf)
    if most < math.inf:
        assert (q * weight**2).sum() <= most < (q * (p / q) ** 2).sum()
    assert health["importance/truncated"] == pytest.approx(float(((p / q) > most).double().mean()))
    torch.testing.assert_close(rollout.path.old.logits.softmax(-1), logits(now).detach().softmax(-1))


def gradients(policy: Autoregressive, algorithm: object, batch: Batch, reference: Autoregressive) -> list[Tensor]:
    actors = Actors(policy, reference, policy)
    (step,) = optimizer_steps(algorithm, actors, batch, Context(Rng(("importance",)), 0, 100))
    loss = sum(share.loss for share in step.shares(step.mass))
    parameters = list(policy.model.networks["table"].parameters())
    return list(torch.autograd.grad(loss, parameters))


def test_the_update_is_the_exact_policy_gradient() -> None:
    """Uniformly drawn, every sequence once is an expectation: of - r grad log p / 4 it is - grad J / 4."""
    now, worth = writer(0), rewards().double()
    rollout, weight, _ = as_drawn_now(every_sequence(torch.zeros(*ALL.shape, CODES).double()), now, math.inf, 100)
    assert abs(float(weight.mean()) - 1) < 1e-12 and float(effective_share(weight)) < 0.5
    objective = (log_probability(now).exp() * worth).sum()
    expected = torch.autograd.grad(-objective / LENGTH, list(now.model.networks["table"].parameters()))
    for algorithm in (DDPO(surrogate="score", num_updates=1), FlowGRPO(num_updates=1)):
        found = gradients(now, algorithm, Batch(rollout, worth, weight), writer(2))
        for mine, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "algorithm",
    [
        DDPO(num_updates=1, surrogate="score"),
        FlowGRPO(num_updates=1, kl_weight=0.3),
        GRPOGuard(num_updates=1, kl_weight=0.3),
        FlowDPPO(num_updates=1),
    ],
    ids=lambda each: type(each).__name__,
)
def test_it_is_the_update_on_new_samples(algorithm: object) -> None:
    """Of each method, its penalty included: what uniform samples give is the sum over sequences by their chance now."""
    require_weighable(algorithm)
    now, reference, advantage = writer(0), writer(2), rewards().double() - 0.5
    fresh = Batch(every_sequence(logits(now).detach()), advantage, len(ALL) * log_probability(now).exp().detach())
    rollout, weight, _ = as_drawn_now(every_sequence(torch.zeros(*ALL.shape, CODES).double()), now, math.inf, 100)
    stale = Batch(rollout, advantage, weight)
    unweighted = gradients(now, algorithm, Batch(rollout, advantage), reference)
    pairs = (gradients(now, algorithm, batch, reference) for batch in (stale, fresh))
    for mine, wanted, biased in zip(*pairs, unweighted, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-6, atol=1e-9)
        assert float((biased - wanted).norm()) > 0.1 * float(wanted.norm())


def test_gaussian_decisions_are_weighted_by_their_densities() -> None:
    before, now = gaussian_policy("o1", FlowSDE(), moved=0.1), gaussian_policy("o1", FlowSDE(), moved=0.12)
    index, condition = torch.zeros(12, dtype=torch.long), {"nothing": torch.zeros(2)}
    with torch.no_grad():
        drawn = before.sample(condition, index, index, torch.arange(12), rng=Rng(("draw",)), record=True)
    rollout = Rollout([Prompt("")], index, index, condition, drawn.sample, drawn.trajectory, torch.arange(12), 0)
    corrected, weight, _ = as_drawn_now(rollout, now, math.inf, 7)

    def log_density(of: Rollout) -> Tensor:
        old = of.path.old
        return torch.distributions.Normal(old.mean, old.std[..., None]).log_prob(rollout.path.choices).sum((1, 2))

    expected = (log_density(corrected) - log_density(rollout)).exp()
    torch.testing.assert_close(weight, expected.double(), rtol=1e-4, atol=0)
    assert float((weight - 1).abs().max()) > 0.01
    again, one, _ = as_drawn_now(corrected, now, 2.0, 7)
    torch.testing.assert_close(one, torch.ones(12, dtype=torch.float64), rtol=1e-6, atol=0)
    assert torch.equal(again.path.choices, rollout.path.choices)


@pytest.mark.parametrize("algorithm", [DiffusionNFT(), DPO(), PPO(), TRPO(), FlowGRPO(noise_weight=True)])
def test_a_method_that_weights_would_not_make_right_is_refused(algorithm: object) -> None:
    with pytest.raises(UserError, match="rollouts.staleness: .* would teach it something else"):
        require_weighable(algorithm)


def test_no_weight_counts_as_no_sample() -> None:
    assert float(effective_share(torch.zeros(3))) == 0 and float(effective_share(torch.full((3,), 0.2))) == 1
    assert float(effective_share(torch.tensor([1.0, 0.0, 0.0, 0.0]))) == 0.25
