"""Values of masked policies on o4, against all paths, and their best, against a recursion over states."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from limner.bench import masked
from limner.bench.tokens import ENTRIES, KL, masked_outcome, run
from limner.policies.masked import MASKED, MaskedSampler
from limner.worlds.oracle.tokens import TokenOracle, number, rewards
from masked_case import Enumeration, moved

SAMPLERS = [MaskedSampler("random", steps=4), MaskedSampler("plackett_luce", steps=4)]
WORTH = rewards().double()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["random", "plackett_luce"])
@torch.no_grad()
def test_values_are_those_of_all_paths(sampler: MaskedSampler) -> None:
    model, base = moved(TokenOracle.load("o4-masked")), TokenOracle.load("o4-masked")
    p, q = (Enumeration(each, sampler).density() for each in (model, base))
    found = masked_outcome(sampler.policy(model), sampler.policy(base), KL)
    assert found.reward == pytest.approx(float((p.sum(1) * WORTH).sum()), rel=1e-5)
    assert found.kl == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-4)
    assert masked_outcome(sampler.policy(base), sampler.policy(base), KL).gained == pytest.approx(0, abs=1e-9)


def soft(truth: Enumeration, state: tuple[int, ...], kl_weight: float, ordered: bool) -> float:
    """The soft value of a state, written as it is meant."""
    still = [j for j in range(4) if state[j] == MASKED]
    if not still:
        return WORTH[number(torch.tensor(state))].item()
    chance = {j: truth.score(state, j) / sum(truth.score(state, k) for k in still) for j in still}
    worth = dict.fromkeys(still, 0.0)
    for j in still:
        for code, p in enumerate(truth.codes(state, j)):
            later = soft(truth, (*state[:j], code, *state[j + 1 :]), kl_weight, ordered)
            worth[j] += p * math.exp(later / kl_weight)
    if ordered:
        return kl_weight * math.log(sum(chance[j] * worth[j] for j in still))
    return sum(chance[j] * kl_weight * math.log(worth[j]) for j in still)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["random", "plackett_luce"])
@torch.no_grad()
def test_the_best_of_a_penalised_objective(sampler: MaskedSampler) -> None:
    """Recursively over states; policies about the base are worth less; without a penalty it is the best reward."""
    model, ordered = TokenOracle.load("o4-masked"), sampler.order != "random"
    base, truth = masked.chances(sampler.policy(model)), Enumeration(model, sampler)
    found = masked.best(base, KL, WORTH, ordered)
    assert found == pytest.approx(soft(truth, (MASKED,) * 4, KL, ordered), rel=1e-6)
    for by in (0.03, 0.3, 3.0):
        other = masked.chances(sampler.policy(moved(TokenOracle.load("o4-masked"), by)))
        assert masked.value(other, base, KL, WORTH) < found
    assert masked.best(base, 0.0, WORTH, ordered) == WORTH.max().item()


@pytest.mark.parametrize("world", ["o4, masked", "o4, masked, ordered"])
def test_what_scores_decisions_learns(world: str) -> None:
    """In a few iterations, and never more than there is."""
    found = run(replace(ENTRIES["Flow-GRPO"], lr=0.2, steps=40), 1, world)
    assert 0.5 < found.gained <= 1 and found.kl > 0.5
