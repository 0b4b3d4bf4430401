from __future__ import annotations

import math

import pytest
import torch

from limner.core.errors import RunError
from limner.evaluate.statistics import bootstrap, paired_bootstrap


def normal(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_interval_is_that_of_normal_theory() -> None:
    values = normal((200, 1), 0)
    found = bootstrap(values)
    error = values.std(correction=0).item() / math.sqrt(200)
    assert found.value == pytest.approx(values.mean().item(), abs=1e-12)
    assert found.n == 200
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.04)
    assert (found.low + found.high) / 2 == pytest.approx(found.value, abs=0.05 * error)


def test_level_sets_the_width() -> None:
    values = normal((200, 1), 0)
    narrow, wide = bootstrap(values, level=0.6827), bootstrap(values, level=0.9545)
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2.0, rel=0.04)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(400):
        rate = torch.rand(80, 1, generator=torch.Generator().manual_seed(trial))
        success = (torch.rand(80, 4, generator=torch.Generator().manual_seed(10_000 + trial)) < rate).float()
        found = bootstrap(success, draws=500, seed=trial)
        covered += found.low <= 0.5 <= found.high
    # Binomial deviation of 400 trials at 0.95: 0.011.
    assert 0.95 - 0.033 <= covered / 400 <= 0.95 + 0.033


def test_prompts_are_drawn_whole() -> None:
    """Four equal seeds of a prompt say no more than one: the interval must not shrink."""
    values = (normal((100, 1), 1) > 0).float()
    assert bootstrap(values.expand(100, 4)) == bootstrap(values)
    independent = bootstrap(values.expand(100, 4).reshape(400, 1))
    clustered = bootstrap(values.expand(100, 4))
    assert (clustered.high - clustered.low) / (independent.high - independent.low) == pytest.approx(2.0, rel=0.05)


def test_pairing_lowers_the_width_and_centres_on_the_difference() -> None:
    prompt = normal((120, 1), 2)
    before, after = prompt + 0.1 * normal((120, 4), 3), prompt + 0.5 + 0.1 * normal((120, 4), 4)
    paired = paired_bootstrap(before, after)
    alone = bootstrap(before)
    assert paired.value == pytest.approx((after - before).mean().item(), abs=1e-12)
    error = (after - before).mean(1).std(correction=0).item() / math.sqrt(120)
    assert paired.high - paired.low == pytest.approx(2 * 1.96 * error, rel=0.04)
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)


def test_invalid_cells_are_left_out_and_never_read() -> None:
    values = torch.tensor([[1.0, math.nan], [0.0, 1.0], [math.nan, math.nan]])
    found = bootstrap(values, values.isfinite())
    assert found.value == pytest.approx(0.75)
    assert found.n == 2
    assert bootstrap(values[:2], values[:2].isfinite()) == found


def test_same_seed_same_interval() -> None:
    values = normal((50, 2), 5)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_agreement_has_width_zero_and_nothing_judged_is_an_error() -> None:
    found = bootstrap(torch.ones(30, 4))
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    with pytest.raises(RunError, match="no sample could be judged"):
        bootstrap(torch.ones(3, 2), torch.zeros(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="not pairs"):
        paired_bootstrap(torch.ones(3, 2), torch.ones(3, 3))
