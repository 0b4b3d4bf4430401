"""Unmasking and its scores on o4, against all 24 orders of all 256 sequences, one by one in float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.algorithms.ddpo import DDPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.core.errors import UserError
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Batch, Prompt
from limner.policies.masked import MASKED, MaskedSampler, Unmasking
from limner.worlds.oracle.tokens import CODES, LENGTH, TokenOracle, number, rewards
from masked_case import ORDERS, Enumeration, moved, written_after
from toys import losses, toy_rollout

EXACT = [
    MaskedSampler(steps=4),
    MaskedSampler(steps=2, schedule="linear", temperature=0.7),
    MaskedSampler("plackett_luce", steps=4),
    MaskedSampler("plackett_luce", steps=2, order_temperature=0.3),
    MaskedSampler("plackett_luce", steps=3, guidance=2.5, temperature=1.3),
]
ESTIMATED = [MaskedSampler("confidence", steps=2), MaskedSampler("confidence", steps=3, guidance=2.0, num_hidden=3)]


def rollout_of(policy: Unmasking, count: int, seed: int = 0) -> Any:
    condition = policy.model.encode([Prompt("a sequence")])
    return toy_rollout(policy, prompts=1, group_size=count, condition=condition, seed=seed)


@pytest.mark.parametrize("sampler", EXACT, ids=str)
def test_what_is_recorded_is_the_density_of_paths(sampler: MaskedSampler) -> None:
    model = TokenOracle.load("o4-masked")
    truth = Enumeration(model, sampler)
    drawn = rollout_of(sampler.policy(model), 100)
    scores = drawn.path.old.log_prob(drawn.path.choices).sum(1).double()
    torch.testing.assert_close(scores, truth.log_density(drawn), atol=3e-6, rtol=1e-6)
    for tokens, choices in zip(drawn.sample.tolist(), drawn.path.choices.tolist(), strict=True):
        assert [tokens[place] for place, _ in choices] == [code for _, code in choices]


@pytest.mark.parametrize("sampler", EXACT[1:4:2], ids=str)
def test_paths_are_drawn_as_often_as_they_are_likely(sampler: MaskedSampler) -> None:
    """The density sums to 1, and Pearson's chi-squared is within four standard deviations of its mean.

    That of the 24 orders, and of the 16 beginnings of two tokens.
    """
    model, count = TokenOracle.load("o4-masked"), 3000
    truth = Enumeration(model, sampler).density()
    assert truth.sum().item() == pytest.approx(1, abs=1e-12)
    drawn = rollout_of(sampler.policy(model), count)
    order = torch.tensor([ORDERS.index(tuple(each)) for each in drawn.path.choices[..., 0].tolist()])
    beginning = number(drawn.sample[:, :2])
    for seen, expected in ((order, truth.sum(0)), (beginning, truth.sum(1).view(16, 16).sum(1))):
        counts = torch.bincount(seen, minlength=len(expected)).double()
        chi = ((counts - count * expected) ** 2 / (count * expected)).sum()
        freedom = len(expected) - 1
        assert abs(chi - freedom) < 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("sampler", [*EXACT, *ESTIMATED], ids=str)
@pytest.mark.parametrize("size", [7, 100])
def test_scored_again_the_ratio_is_one_and_after_a_move_that_of_the_density(sampler: MaskedSampler, size: int) -> None:
    model = TokenOracle.load("o4-masked")
    policy = sampler.policy(model)
    drawn = rollout_of(policy, 30)
    rows, before = torch.arange(30), Enumeration(model, sampler)
    packs = list(policy.pack(drawn, rows, size))
    evaluations = sampler.steps if sampler.order != "confidence" else sampler.num_hidden
    assert sum(pack.evaluations for pack in packs) == 30 * evaluations
    assert all(pack.evaluations == size for pack in packs[:-1])
    seen = torch.zeros_like(drawn.path.mask, dtype=torch.int64)
    for pack in packs:
        seen[pack.row, pack.column] += 1
        found = policy.distribution(pack, drawn.condition)
        assert torch.equal(found.log_ratio(pack.old, pack.choice), torch.zeros(len(pack)))
        assert torch.equal(found.kl(pack.old), torch.zeros(len(pack)))
    assert (seen == 1).all()
    if sampler.order == "confidence":
        return
    moved(model)
    ratio = torch.zeros(30, dtype=torch.float64)
    for pack in packs:
        now = policy.distribution(pack, drawn.condition)
        ratio.index_add_(0, pack.row, now.log_ratio(pack.old, pack.choice).double())
    expected = Enumeration(model, sampler).log_density(drawn) - before.log_density(drawn)
    torch.testing.assert_close(ratio, expected, atol=1e-5, rtol=1e-5)


def test_of_samples_that_teach_nothing_no_decision_is_scored() -> None:
    """As of a group whose samples are all worth the same, in an update that asks for its packs itself (TRPO)."""
    policy = EXACT[0].policy(TokenOracle.load("o4-masked"))
    drawn = rollout_of(policy, 4)
    assert sum(len(pack) for pack in policy.pack(drawn, torch.arange(0), 8)) == 0


def test_kl_of_a_decision_by_hand() -> None:
    """Of the place over those that are open, and of the code at the place that was chosen."""
    sampler = MaskedSampler("plackett_luce", steps=2, schedule="linear")
    model, base = moved(TokenOracle.load("o4-masked")), TokenOracle.load("o4-masked")
    policy, reference = sampler.policy(model), sampler.policy(base)
    drawn = rollout_of(policy, 20)
    (pack,) = policy.pack(drawn, torch.arange(20), 1000)
    found = policy.distribution(pack, drawn.condition).kl(reference.distribution(pack, drawn.condition))
    new, old = Enumeration(model, sampler), Enumeration(base, sampler)
    for i, (row, column) in enumerate(zip(pack.row.tolist(), pack.column.tolist(), strict=True)):
        state = tuple(drawn.path.states.tokens[row, column // 2].tolist())
        order = drawn.path.choices[row, :, 0].tolist()
        still = [j for j in range(LENGTH) if j not in order[:column]]
        p, q = ([e.score(state, j) / sum(e.score(state, k) for k in still) for j in still] for e in (new, old))
        kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        p, q = (e.codes(state, order[column]) for e in (new, old))
        kl += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert found[i].item() == pytest.approx(kl, rel=1e-4, abs=1e-6)


def exact_gradient(model: TokenOracle, sampler: MaskedSampler) -> Tensor:
    """The gradient of J = sum over paths of p(path) r, by autograd over all of them in float64."""
    table = model.networks["table"].double()
    every = torch.tensor(list(itertools.product(range(CODES), repeat=LENGTH)))
    weights, total = (CODES + 1) ** torch.arange(LENGTH - 1, -1, -1), torch.zeros((), dtype=torch.float64)
    for order in ORDERS:
        score, start = torch.zeros(len(every), dtype=torch.float64), 0
        for stop in written_after(sampler):
            hidden = torch.tensor([j not in order[:start] for j in range(LENGTH)])
            row = ((every.masked_fill(hidden, MASKED) + 1) * weights).sum(1)
            log_p = ((table.given[row] + table.prompt[0]) / sampler.temperature).log_softmax(-1)
            worth = torch.zeros(len(every), LENGTH, dtype=torch.float64)
            if sampler.order == "plackett_luce":
                worth = (log_p.exp() * log_p).sum(-1) / sampler.order_temperature
            for i in range(start, stop):
                score = score + worth[:, order[i]] - worth[:, list(order[i:])].logsumexp(1)
                score = score + log_p[:, order[i]].gather(1, every[:, order[i], None])[:, 0]
            start = stop
        total = total + (score.exp() * rewards().double()).sum()
    found = torch.autograd.grad(total, list(table.parameters()))
    return torch.cat([each.flatten() for each in found])


WIDE = {"clip_low": 0.2, "clip_high": 0.2, "clip_elements": 1, "num_updates": 1}
ALGORITHMS = {"score": DDPO(surrogate="score"), "grpo": FlowGRPO(**WIDE)}


@pytest.mark.parametrize(("algorithm", "sampler"), [("score", EXACT[1]), ("grpo", EXACT[3])], ids=str)
def test_the_policy_gradient_is_the_exact_one(algorithm: str, sampler: MaskedSampler) -> None:
    """Mean over 25 rollouts of 120, within three standard errors, along the exact gradient and nine drawn directions.

    Losses are means over decisions, four a sample, so their gradient is -1/4 of that of J.
    """
    model, exact = TokenOracle.load("o4-masked"), exact_gradient(TokenOracle.load("o4-masked"), sampler)
    policy, parameters = sampler.policy(model), list(model.networks["table"].parameters())
    worth, found = rewards(), []
    for seed in range(25):
        drawn = rollout_of(policy, 120, seed)
        batch = Batch(drawn, worth[number(drawn.sample)] - worth.mean())
        shares = losses(
            ALGORITHMS[algorithm], Actors(policy, policy, policy), batch, Context(Rng(("masked", seed)), 0, 500, {})
        )
        grads = torch.autograd.grad(sum(share.loss for share in shares), parameters)
        found.append(-LENGTH * torch.cat([each.flatten() for each in grads]))
    drawn_directions = torch.randn(9, len(exact), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    directions = torch.cat([exact[None] / exact.norm(), drawn_directions])
    estimates, expected = torch.stack(found).double() @ directions.T, directions @ exact
    error = estimates.std(0) / math.sqrt(len(estimates))
    assert ((estimates.mean(0) - expected).abs() <= 3 * error).all() and expected[0] > 5 * error[0]


def test_without_chance_the_surest_codes_are_written_first() -> None:
    """MaskGIT's order: of the codes that were drawn everywhere the likeliest stay, where they were."""
    sampler = MaskedSampler("confidence", steps=2, schedule="linear", order_temperature=0.0)
    model = TokenOracle.load("o4-masked")
    policy, truth = sampler.policy(model), Enumeration(model, sampler)
    condition, id = model.encode([Prompt("a sequence")]), torch.arange(40)
    drawn = policy.sample(condition, 0 * id, id, id, rng=Rng(("sure",)), record=False).sample
    nothing = (MASKED,) * LENGTH
    uniform = Rng(("sure", "codes")).uniform(id, (2, LENGTH)).double()
    for tokens, u in zip(drawn.tolist(), uniform[:, 0].tolist(), strict=True):
        codes = []
        for j in range(LENGTH):
            reached = itertools.accumulate(truth.codes(nothing, j))
            codes.append(next(k for k, total in enumerate(reached) if total > u[j]))
        sure = sorted(range(LENGTH), key=lambda j, codes=codes: -truth.codes(nothing, j)[codes[j]])[:2]
        assert [tokens[j] for j in sure] == [codes[j] for j in sure]


@pytest.mark.parametrize("sampler", ESTIMATED, ids=str)
def test_the_estimator_scores_what_it_hides_in_the_finished_sample(sampler: MaskedSampler) -> None:
    """By hand: shares grow from the least to all, a group hides alike, and each code has its probability there."""
    model = TokenOracle.load("o4-masked")
    policy, truth = sampler.policy(model), Enumeration(model, sampler)
    drawn = rollout_of(policy, 6)
    path, counts = drawn.path, {2: [3, 3], 3: [2, 3, 3]}[sampler.num_hidden]
    assert path.choices.shape[1] == sum(counts) and torch.equal(path.choices[0, :, 0], path.choices[5, :, 0])
    for row in range(6):
        column = 0
        for i, count in enumerate(counts):
            hidden = path.choices[row, column : column + count, 0].tolist()
            tokens = drawn.sample[row].tolist()
            state = tuple(MASKED if j in hidden else tokens[j] for j in range(LENGTH))
            assert path.states.tokens[row, i].tolist() == list(state) and len(set(hidden)) == count
            for k, j in enumerate(hidden):
                log_p = path.old.code.logits[row, column + k].double().log_softmax(0)[tokens[j]]
                assert log_p.item() == pytest.approx(math.log(truth.codes(state, j)[tokens[j]]), abs=2e-6)
            column += count


def test_shares_by_hand() -> None:
    """MaskGIT's cosine: of 64 places in 8 steps 62, 59, 53, 45, 35, 24, 12 and none are open after each."""
    spans = MaskedSampler(steps=8).spans(64)
    assert [64 - stop for _, stop in spans] == [62, 59, 53, 45, 35, 24, 12, 0]
    assert MaskedSampler(steps=4, schedule="linear").spans(64) == [(0, 16), (16, 32), (32, 48), (48, 64)]
    assert MaskedSampler(steps=4).spans(4) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert MaskedSampler(num_hidden=4, least_hidden=0.2).hidden(10) == [4, 6, 8, 9]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="steps is 5, but a sample has 4 places"):
        MaskedSampler(steps=5).policy(TokenOracle.load("o4-masked"))
    with pytest.raises(UserError, match="order_temperature is 0, where order plackett_luce has no probability"):
        MaskedSampler("plackett_luce", order_temperature=0.0)


@pytest.mark.parametrize("sampler", [EXACT[3], ESTIMATED[0]], ids=str)
def test_a_sample_depends_on_its_id_alone(sampler: MaskedSampler) -> None:
    policy = sampler.policy(TokenOracle.load("o4-masked"))
    condition = policy.model.encode([Prompt("a sequence")])

    def draw(ids: list[int]) -> Tensor:
        id = torch.tensor(ids)
        return policy.sample(condition, 0 * id, id, id, rng=Rng(("x",)), record=False).sample

    assert torch.equal(draw([5, 9, 2]), torch.cat([draw([5]), draw([9]), draw([2])]))


def test_what_a_critic_sees_is_what_was_written() -> None:
    drawn = rollout_of(MaskedSampler(steps=2, schedule="linear").policy(TokenOracle.load("o4-masked")), 3)
    (seen,) = drawn.path.states.features()
    assert seen.shape == (3, 4, 4) and (seen[:, :2] == MASKED).all()
    assert ((seen[:, 2:] == MASKED).sum(-1) == 2).all()
