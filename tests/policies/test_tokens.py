"""Autoregressive sampling and scoring on o4, against all of its 256 sequences, summed over one by one in float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.algorithms.ddpo import DDPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Batch, Prompt
from limner.objectives.categorical import Categorical
from limner.policies.tokens import Autoregressive, TokenSampler
from limner.worlds.oracle.tokens import CODES, LENGTH, TokenOracle, number, rewards, sequences
from toys import losses, toy_rollout

SAMPLERS = [
    TokenSampler(),
    TokenSampler(temperature=0.7),
    TokenSampler(guidance=2.5),
    TokenSampler(top_k=3),
    TokenSampler(top_p=0.8),
    TokenSampler(temperature=1.3, top_k=3, top_p=0.9, guidance=0.5),
]


def after(model: TokenOracle, prefix: tuple[int, ...], sampler: TokenSampler) -> list[float]:
    """Probabilities of the next token, from the table's numbers and nothing of the policy."""
    table, place = model.networks["table"], 0
    for token in prefix:
        place = CODES * place + token
    row = table.after[len(prefix)][place].double()
    c, u = (row + table.prompt[i].double() for i in (0, 1))
    logits = ((u + sampler.guidance * (c - u)) / sampler.temperature).tolist()
    order = sorted(range(CODES), key=lambda k: -logits[k])
    if sampler.top_k:
        order = order[: sampler.top_k]
    total, kept, reached = sum(math.exp(logits[k]) for k in order), [], 0.0
    for k in order:
        if reached < sampler.top_p:
            kept.append(k)
        reached += math.exp(logits[k]) / total
    total = sum(math.exp(logits[k]) for k in kept)
    return [math.exp(logits[k]) / total if k in kept else 0.0 for k in range(CODES)]


def density(model: TokenOracle, sampler: TokenSampler) -> Tensor:
    """The probability of every sequence."""
    found = []
    for tokens in itertools.product(range(CODES), repeat=LENGTH):
        found.append(math.prod(after(model, tokens[:i], sampler)[tokens[i]] for i in range(LENGTH)))
    return torch.tensor(found, dtype=torch.float64)


def rollout_of(policy: Autoregressive, count: int) -> Any:
    condition = policy.model.encode([Prompt("a sequence")])
    return toy_rollout(policy, prompts=1, group_size=count, condition=condition)


def packed(policy: Autoregressive, rollout: Any, size: int = 10**6) -> Any:
    return policy.pack(rollout, torch.arange(len(rollout)), size)


def moved(model: TokenOracle) -> TokenOracle:
    with torch.no_grad():
        for parameter in model.networks["table"].parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7))
    return model


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_what_is_recorded_is_the_density_and_sums_to_one(sampler: TokenSampler) -> None:
    model = TokenOracle.load()
    truth = density(model, sampler)
    assert truth.sum().item() == pytest.approx(1, abs=1e-12)
    drawn = rollout_of(sampler.policy(model), 600)
    path = drawn.trajectory
    scores = path.old.log_prob(path.choices).sum(1).double()
    torch.testing.assert_close(scores, truth[number(drawn.sample)].log(), atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS[::2], ids=str)
def test_sequences_are_drawn_as_often_as_they_are_likely(sampler: TokenSampler) -> None:
    """Pearson's chi-squared over the sequences that can be drawn: within four standard deviations of its mean."""
    model, count = TokenOracle.load(), 20_000
    truth = density(model, sampler)
    seen = torch.bincount(number(rollout_of(sampler.policy(model), count).sample), minlength=256).double()
    there = truth > 1e-12
    assert seen[~there].sum() == 0
    chi = ((seen - count * truth)[there] ** 2 / (count * truth[there])).sum()
    freedom = int(there.sum()) - 1
    assert abs(chi - freedom) < 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("sampler", [*SAMPLERS, TokenSampler(guidance=2.0, top_k=3, scored="unguided")], ids=str)
@pytest.mark.parametrize("size", [1, 7, 100])
def test_scored_again_the_ratio_is_one_and_after_a_move_it_is_that_of_the_density(
    sampler: TokenSampler, size: int
) -> None:
    """Tokens that top-k and top-p left out while sampling stay out, whatever the weights would leave now."""
    model = TokenOracle.load()
    policy = sampler.policy(model)
    drawn, before = rollout_of(policy, 60), density(model, sampler)
    for pack in packed(policy, drawn, size):
        found = policy.distribution(pack, drawn.condition)
        torch.testing.assert_close(found.log_ratio(pack.old, pack.choice), torch.zeros(len(pack)), atol=1e-6, rtol=0)
        torch.testing.assert_close(found.kl(pack.old), torch.zeros(len(pack)), atol=1e-6, rtol=0)
    moved(model)
    if sampler.leaves_out or sampler.scored == "unguided":
        found = [policy.distribution(pack, drawn.condition) for pack in packed(policy, drawn, size)]
        assert all(
            each.log_prob(pack.choice).isfinite().all()
            for each, pack in zip(found, packed(policy, drawn, size), strict=True)
        )
        return
    ratio = torch.zeros(60, dtype=torch.float64)
    for pack in packed(policy, drawn, size):
        now = policy.distribution(pack, drawn.condition)
        ratio.index_add_(0, pack.row, now.log_ratio(pack.old, pack.choice).double())
    where = number(drawn.sample)
    expected = (density(model, sampler)[where] / before[where]).log()
    torch.testing.assert_close(ratio, expected, atol=1e-5, rtol=1e-5)


def test_what_is_scored_unguided_is_not_what_was_drawn_from() -> None:
    """As the name says: the tokens are those of the guided policy, the scores those of the prompt alone."""
    model = TokenOracle.load()
    guided, named = (TokenSampler(guidance=3.0, scored=each).policy(model) for each in ("drawn", "unguided"))
    a, b = rollout_of(guided, 50), rollout_of(named, 50)
    assert torch.equal(a.sample, b.sample)
    plain = density(model, TokenSampler())[number(b.sample)].log()
    scores = b.trajectory.old.log_prob(b.trajectory.choices).sum(1).double()
    torch.testing.assert_close(scores, plain, atol=2e-6, rtol=1e-6)
    assert (a.trajectory.old.log_prob(a.trajectory.choices).sum(1) - scores).abs().max() > 0.5


def test_a_sample_depends_on_its_id_alone() -> None:
    policy = TokenSampler(top_p=0.9).policy(TokenOracle.load())
    condition = policy.model.encode([Prompt("a sequence")])

    def draw(ids: list[int]) -> Tensor:
        id = torch.tensor(ids)
        return policy.sample(condition, 0 * id, id, id, rng=Rng(("x",)), record=False).sample

    assert torch.equal(draw([5, 9, 2]), torch.cat([draw([5]), draw([9]), draw([2])]))


def exact_gradient(model: TokenOracle) -> Tensor:
    """The gradient of J = sum_y p(y) r(y) by autograd over the sum of all 256, in float64."""
    table, total = model.networks["table"].double(), torch.zeros((), dtype=torch.float64)
    everything, worth = sequences(), rewards().double()
    score = torch.zeros(256, dtype=torch.float64)
    for i in range(LENGTH):
        logits = table.after[i][number(everything[:, :i])] + table.prompt[0]
        score = score + logits.log_softmax(-1).gather(-1, everything[:, i, None])[:, 0]
    total = (score.exp() * worth).sum()
    found = torch.autograd.grad(total, list(table.parameters()), allow_unused=True)
    return torch.cat([each.flatten() for each in found])


WIDE = {"clip_low": 0.2, "clip_high": 0.2, "clip_elements": 1, "num_updates": 1}


ALGORITHMS = {"score": DDPO(surrogate="score"), "ddpo": DDPO(**WIDE), "grpo": FlowGRPO(**WIDE)}


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_the_policy_gradient_is_the_exact_one(algorithm: DDPO | FlowGRPO) -> None:
    """Mean over 40 rollouts of 100, within three standard errors, along the exact gradient and nine drawn directions.

    Losses are means over decisions, four a sample, so their gradient is -1/4 of that of J.
    """
    model, exact = TokenOracle.load(), exact_gradient(TokenOracle.load())
    policy, parameters = TokenSampler().policy(model), list(model.networks["table"].parameters())
    condition, worth, found = model.encode([Prompt("a sequence")]), rewards(), []
    for seed in range(40):
        drawn = toy_rollout(policy, 1, 100, seed=seed, condition=condition)
        batch = Batch(drawn, worth[number(drawn.sample)] - worth.mean())
        shares = losses(algorithm, Actors(policy, policy, policy), batch, Context(Rng(("tokens", seed)), 0, 100, {}))
        grads = torch.autograd.grad(sum(share.loss for share in shares), parameters)
        found.append(-LENGTH * torch.cat([each.flatten() for each in grads]))
    drawn_directions = torch.randn(9, len(exact), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    directions = torch.cat([exact[None] / exact.norm(), drawn_directions])
    estimates, expected = torch.stack(found).double() @ directions.T, directions @ exact
    error = estimates.std(0) / math.sqrt(len(estimates))
    assert ((estimates.mean(0) - expected).abs() <= 3 * error).all() and expected[0] > 10 * error[0]


def test_what_a_critic_sees_is_what_was_written() -> None:
    drawn = rollout_of(TokenSampler().policy(TokenOracle.load()), 3)
    (seen,) = drawn.trajectory.states.features()
    a, b, c, _ = drawn.sample[0].tolist()
    assert seen[0].tolist() == [[-1, -1, -1, -1], [a, -1, -1, -1], [a, b, -1, -1], [a, b, c, -1]]


def test_of_equal_logits_the_first_are_left() -> None:
    """Top-k is k tokens even where some are as likely as the last of them."""
    assert TokenSampler(top_k=2).left(torch.zeros(1, 4)).tolist() == [[True, True, False, False]]
    assert TokenSampler(top_p=0.5).left(torch.zeros(1, 4)).tolist() == [[True, True, False, False]]
    assert isinstance(Categorical(torch.zeros(1, 4)).sample(torch.tensor([0.9])), Tensor)
