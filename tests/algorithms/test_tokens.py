"""One network evaluation scores many decisions: all tokens of a sample, or the branches that part in one state.

No algorithm knows: its loss is on decisions, and which evaluation scores one is the affair of the policy's packs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from limner.algorithms.ddpo import DDPO
from limner.algorithms.flow_dppo import FlowDPPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.grpo_guard import GRPOGuard
from limner.algorithms.ppo import PPO
from limner.algorithms.trpo import TRPO
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.tree import select
from limner.core.types import Batch, Decisions, Rollout, Scored
from limner.diffusion.dynamics import FlowSDE
from limner.diffusion.gaussian import Gaussian
from limner.engine.count import count_evaluations
from limner.learning.credit import credited
from limner.learning.passes import optimizer_steps
from limner.policies.denoising import Denoising, Sampler
from toys import Bigrams, Choice, ToyTokens, Written, losses, toy_denoiser, toy_rollout

WIDE = {"clip_low": 0.2, "clip_high": 0.2, "clip_elements": 1, "num_updates": 1}
ON_TOKENS = [
    FlowGRPO(**WIDE),
    FlowGRPO(kl_weight=0.1, **WIDE),
    DDPO(**WIDE),
    DDPO(surrogate="score"),
    FlowDPPO(kl_limit=0.1, clip_elements=1, num_updates=1),
    PPO(**WIDE),
    GRPOGuard(**WIDE),
]
WORDS = torch.arange(4)
"""The condition: prompt i is word i."""


def context(micro_batch: int = 100, step: int = 0, memory: dict | None = None) -> Context:
    return Context(Rng(("tokens", step)), step, micro_batch, {} if memory is None else memory)


@dataclass(frozen=True)
class TokenByToken(ToyTokens):
    """The same policy, one evaluation a token: of what was written before it."""

    def pack(self, rollout: Rollout, rows: Tensor, size: int) -> Iterator[Decisions]:
        for pack in super().pack(rollout, rows, 10**6):
            for part in torch.arange(len(pack)).split(size):
                each = select(replace(pack, state=None, prompt_index=pack.prompt_index[pack.place]), part)
                tokens = pack.state.tokens[pack.place[part]]
                later = torch.arange(tokens.shape[1]) > each.column[:, None]
                yield replace(each, state=Written(tokens.masked_fill(later, 0)), place=torch.arange(len(part)))


@dataclass(frozen=True)
class OnceAState:
    """A denoising policy that evaluates a state of a tree once, for all decisions that were made in it."""

    policy: Denoising

    def pack(self, rollout: Rollout, rows: Tensor, size: int) -> Iterator[Decisions]:
        (whole,) = self.policy.pack(rollout, rows, 10**6)
        names = torch.cat([whole.prompt_index[:, None], whole.state.t[:, None], whole.state.x.flatten(1)], 1)
        different, place = names.unique(dim=0, return_inverse=True)
        first = torch.full((len(different),), len(place)).scatter_reduce(0, place, torch.arange(len(place)), "amin")
        for states in torch.arange(len(first)).split(size):
            chosen = torch.isin(place, states).nonzero()[:, 0]
            state, index = select((whole.state, whole.prompt_index), first[states])
            part = select(replace(whole, state=None), chosen)
            yield replace(part, state=state, prompt_index=index, place=place[chosen] - states[0])

    def distribution(self, decisions: Decisions, condition: dict[str, Tensor]) -> Gaussian:
        return self.policy.distribution(decisions, condition)

    def elements(self) -> int:
        return self.policy.elements()


def moved(policy: ToyTokens) -> ToyTokens:
    """Return the policy after its weights have moved a little."""
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7))
    return policy


def gradient(algorithm, actors, rollout, advantage, parameters, micro_batch: int = 100):
    outputs = losses(algorithm, actors, Batch(rollout, advantage), context(micro_batch))
    found = torch.autograd.grad(sum(output.loss for output in outputs), parameters)
    return torch.cat([part.flatten() for part in found]), sum(float(o.metrics["weight"]) for o in outputs)


@pytest.mark.parametrize("algorithm", ON_TOKENS, ids=str)
def test_one_evaluation_scores_a_whole_sample(algorithm):
    """The gradient is that of one evaluation a token, at weights that have moved; and a sample costs one, not four."""
    policy, reference = ToyTokens(Bigrams(seed=1)), ToyTokens(Bigrams(seed=1))
    rollout = toy_rollout(policy, condition=WORDS)
    moved(policy)
    parameters, slow = list(policy.network.parameters()), TokenByToken(policy.network)
    advantage = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
    advantage[2] = 0  # teaches nothing
    counted = count_evaluations({"network": policy.network})
    expected, decisions = gradient(algorithm, Actors(slow, reference, slow), rollout, advantage, parameters)
    assert decisions == counted() == 44
    for size in (100, 11, 3):
        before = counted()
        found, decisions = gradient(algorithm, Actors(policy, reference, policy), rollout, advantage, parameters, size)
        assert decisions == 44 and counted() - before == 11
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_a_pass_is_as_many_evaluations_as_fit():
    policy = ToyTokens(Bigrams(seed=1))
    rollout = toy_rollout(policy, condition=WORDS)
    rollout.path.mask[0, 1:] = rollout.path.mask[3] = False
    packs = list(policy.pack(rollout, torch.arange(12), 5))
    assert [(pack.evaluations, len(pack)) for pack in packs] == [(5, 17), (5, 20), (1, 4)]
    (step,) = optimizer_steps(DDPO(**WIDE), Actors(policy, policy, policy), Batch(rollout, torch.ones(12)), context(5))
    assert step.size == 41 and [float(share.metrics["weight"]) for share in step.shares(41)] == [17, 20, 4]


def test_the_gradient_of_tokens_by_hand():
    """At the weights that sampled: minus the mean over tokens of A grad log p(token | what is before it, prompt)."""
    policy = ToyTokens(Bigrams(seed=1))
    rollout = toy_rollout(policy, condition=WORDS)
    advantage = torch.randn(12, generator=torch.Generator().manual_seed(1))
    table, word = policy.network.parameters()
    terms = []
    for row, tokens in enumerate(rollout.sample.tolist()):
        for position, (last, token) in enumerate(zip([0, *tokens], tokens, strict=False)):
            logits = table[position, last] + word[rollout.prompt_index[row]]
            terms.append(advantage[row] * logits.log_softmax(0)[token])
    expected = torch.autograd.grad(-torch.stack(terms).mean(), (table, word))
    for algorithm in ON_TOKENS:
        if algorithm.needs.reference:
            continue
        found, _ = gradient(algorithm, Actors(policy, policy, policy), rollout, advantage, [table, word])
        torch.testing.assert_close(found, torch.cat([part.flatten() for part in expected]), rtol=1e-4, atol=1e-7)


def test_a_normalised_ratio_of_tokens_has_mean_0():
    old, new = (Choice(torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))) for seed in (1, 2))
    each = torch.stack([new.normalised_log_ratio(old, torch.full((5,), token)) for token in range(4)], 1)
    torch.testing.assert_close((old.logits.softmax(-1) * each).sum(1), torch.zeros(5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("algorithm", ON_TOKENS, ids=str)
def test_it_learns_to_write(algorithm):
    """The reward is the number of threes: at first one of four, in the end nearly all."""
    policy, reference, memory = ToyTokens(Bigrams()), ToyTokens(Bigrams()), {}
    optimizer = torch.optim.Adam(policy.network.parameters(), lr=0.2)
    for step in range(30):
        rollout = toy_rollout(policy, prompts=2, group_size=16, seed=step, condition=WORDS)
        total = (rollout.sample == 3).float().sum(1)
        scored = Scored(rollout, {"threes": total}, torch.ones(32, dtype=torch.bool), total)
        at = context(50, step, memory)
        batch = credited(scored, algorithm.advantage(scored, at))
        for update in optimizer_steps(algorithm, Actors(policy, reference, policy), batch, at):
            for share in update.shares(update.size):
                share.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert total.mean() > 3.3


def test_trpo_takes_its_step_on_tokens():
    policy = ToyTokens(Bigrams(seed=1))
    rollout = toy_rollout(policy, condition=WORDS)
    batch, parameters = Batch(rollout, (rollout.sample == 3).float().sum(1) - 1), list(policy.network.parameters())
    health = TRPO(kl_limit=0.01).update(Actors(policy, policy, policy), parameters, batch, context(5))
    assert 0.002 < health["step_kl"] <= 0.01 and health["improvement"] > 0


@pytest.mark.parametrize(
    "algorithm",
    [FlowGRPO(num_updates=1, scale="depth", kl_weight=0.1), DDPO(), FlowDPPO(num_updates=1), PPO(), GRPOGuard()],
    ids=str,
)
def test_one_evaluation_scores_the_branches_that_part_in_a_state(algorithm):
    """Splits at 0 and 1 of 4: a group makes 2 + 4 + 4 decisions in 1 + 2 + 4 states."""
    algorithm = replace(algorithm, num_updates=1)
    model, base = toy_denoiser(2), toy_denoiser(2)
    sampler = Sampler(FlowSDE(), 4, splits=(0, 1))
    policy, reference = sampler.policy(model), sampler.policy(base)
    tree = toy_rollout(policy, 3, 4)
    parameters = list(model.network.parameters())
    with torch.no_grad():
        torch._foreach_add_(parameters, 0.02)
    advantage = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
    counted = count_evaluations(model.networks)
    expected, decisions = gradient(algorithm, Actors(policy, reference, policy), tree, advantage, parameters)
    assert decisions == counted() == 3 * 10
    for size in (100, 4):
        once, base_once, before = OnceAState(policy), OnceAState(reference), counted()
        found, decisions = gradient(algorithm, Actors(once, base_once, once), tree, advantage, parameters, size)
        assert decisions == 3 * 10 and counted() - before == 3 * 7
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
