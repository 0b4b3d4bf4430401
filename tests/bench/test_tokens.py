"""What is measured on the token world: its optimum by another way, its density, and that an algorithm gets there."""

from __future__ import annotations

import math

import pytest
import torch

from limner.bench.tokens import ENTRIES, KL, WORLDS, best, log_density, outcome, resting, run
from limner.worlds.oracle.tokens import TokenOracle, number, rewards, sequences


def test_sequences_are_numbered_in_order() -> None:
    assert torch.equal(number(sequences()), torch.arange(256))
    assert rewards().min() >= 0 and rewards().max() <= 1 and len(rewards().unique()) == 256


def test_the_best_of_a_penalised_objective() -> None:
    """It is what p* = base exp(r / beta) / Z is worth, and all densities about it are worth less."""
    base, worth = log_density(TokenOracle.load()).detach(), rewards().double()

    def value(log_p: torch.Tensor) -> float:
        return float(log_p.exp() @ (worth - KL * (log_p - base)))

    optimum = (base + worth / KL).log_softmax(0)
    assert best(base, worth, KL) == pytest.approx(value(optimum), rel=1e-12)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-2, 0.1, 1.0) * 10:
        away = optimum + size * torch.randn(256, generator=generator, dtype=torch.float64)
        assert value(away.log_softmax(0)) < value(optimum)
    assert best(base, worth, 0.0) == worth.max().item()


def test_of_the_base_nothing_was_gained() -> None:
    base = log_density(TokenOracle.load()).detach()
    assert base.exp().sum().item() == pytest.approx(1, abs=1e-6)
    found = outcome(base, base, KL)
    assert found.kl == 0 and found.gained == pytest.approx(0, abs=1e-12)
    assert found.reward == pytest.approx(
        sum(math.exp(p) * r for p, r in zip(base.tolist(), rewards().tolist(), strict=True))
    )


@pytest.mark.parametrize("name", ["Flow-GRPO", "DDPO", "Flow-GRPO, KL 0.1", "TRPO", "D3PO"])
def test_what_scores_decisions_gets_there(name: str) -> None:
    assert run(ENTRIES[name], seed=1).objective > 0.95


def test_a_focus_on_tokens_is_an_entry_where_they_are_written_in_order() -> None:
    entry = ENTRIES["Flow-GRPO, STAGE's weights"]
    assert [world for world in WORLDS if entry.writes(world)] == ["o4"]
    assert all(ENTRIES["TRPO"].writes(world) for world in WORLDS)


def test_a_penalty_on_decisions_does_not_rest_at_the_optimum() -> None:
    """It misses what a token does to the KL of later ones; the KL of sequences does rest there."""
    assert resting(KL, whole=True).objective == pytest.approx(1, abs=1e-4)
    found = resting(KL)
    assert 0.96 < found.objective < 0.975 and 0.89 < found.gained < 0.91
