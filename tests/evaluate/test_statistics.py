from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from limner.core.errors import RunError
from limner.evaluate.statistics import mean_interval, paired_interval


def normal(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [2, 3, 7, 200])
@pytest.mark.parametrize("level", [0.68, 0.95])
def test_interval_is_scipys_of_student(n: int, level: float) -> None:
    values = 3 + normal((n, 1), n)
    found = mean_interval(values, level=level)
    low, high = stats.t.interval(level, n - 1, values.mean().item(), stats.sem(values[:, 0].numpy()))
    assert (found.value, found.n) == (pytest.approx(values.mean().item()), n)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    before, after = normal((n, 4), n + 1), 3 + normal((n, 4), n + 2)
    exact = stats.ttest_rel(after.mean(1).numpy(), before.mean(1).numpy()).confidence_interval(level)
    paired = paired_interval(before, after, level=level)
    assert (paired.low, paired.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def null(kind: str, n: int, trials: int) -> torch.Tensor:
    """Return results of prompts whose true mean is 0: [trials, n, seeds]."""
    rng = torch.Generator().manual_seed(n)
    if kind == "normal":
        return torch.randn(trials, n, 1, generator=rng, dtype=torch.float64)
    if kind == "skewed":
        return -torch.rand(trials, n, 1, generator=rng, dtype=torch.float64).log() - 1
    rate = torch.rand(trials, n, 1, generator=rng)  # a 0 or 1 at four seeds, before and after
    before, after = ((torch.rand(trials, n, 4, generator=rng) < rate).double() for _ in range(2))
    return after - before


LEAST = {
    "normal": {2: 0.94, 3: 0.94, 5: 0.94, 10: 0.94, 30: 0.94, 112: 0.94},
    "paired": {2: 0.89, 3: 0.94, 5: 0.94, 10: 0.94, 30: 0.94, 112: 0.94},
    "skewed": {2: 0.89, 3: 0.86, 5: 0.86, 10: 0.89, 30: 0.91, 112: 0.93},
}
"""How often the interval must hold the truth; see `mean_interval` for what the percentile bootstrap does."""


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30, 112])
@pytest.mark.parametrize("kind", LEAST)
def test_the_interval_holds_and_a_true_null_seldom_rises(kind: str, n: int) -> None:
    """2,000 experiments each; the deviation of a share of .95 is .005."""
    found = [mean_interval(values) for values in null(kind, n, 2000)]
    held = sum(each.low <= 0 <= each.high for each in found) / 2000
    rose = sum(each.direction == "up" for each in found) / 2000
    assert LEAST[kind][n] <= held <= 0.985
    assert rose <= 0.035 and (n >= 5 or rose == 0)


def test_a_prompt_that_is_asked_again_is_no_further_prompt() -> None:
    """Asked thrice each, ten prompts know no more; rows as if of thirty would claim nearly twice as much."""
    once = normal((10, 1), 3)
    thrice, of = once.repeat(3, 1), torch.arange(10).repeat(3)
    found, expected = mean_interval(thrice, prompt=of), mean_interval(once)
    assert (found.low, found.high, found.n) == (pytest.approx(expected.low), pytest.approx(expected.high), 10)
    claimed = mean_interval(thrice)
    assert claimed.high - claimed.low < 0.6 * (expected.high - expected.low)


def test_the_interval_holds_where_some_prompts_are_asked_more_often() -> None:
    """Five of forty are asked eight times each; the prompt is most of what varies."""
    of = torch.cat([torch.arange(35), torch.arange(35, 40).repeat(8)])
    rng, trials = torch.Generator().manual_seed(0), 1000
    of_prompt = torch.randn(trials, 40, generator=rng, dtype=torch.float64)
    values = of_prompt[:, of] + 0.3 * torch.randn(trials, len(of), generator=rng, dtype=torch.float64)
    held = {name: 0 for name in ("told", "not told")}
    for row in values[:, :, None]:
        for name, prompt in (("told", of), ("not told", None)):
            found = mean_interval(row, prompt=prompt)
            held[name] += found.low <= 0 <= found.high
    assert held["told"] / trials >= 0.88 and held["not told"] / trials <= 0.75


def test_with_many_prompts_it_is_the_percentile_bootstraps() -> None:
    """At 112 prompts, as the shipped worlds have, its ends move by 3 % of its width at most."""
    means = null("paired", 112, 1)[0].mean(1)
    rows = torch.randint(112, (20_000, 112), generator=torch.Generator().manual_seed(0))
    low, high = torch.quantile(means[rows].mean(1), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    found = mean_interval(means[:, None])
    assert (found.low, found.high) == (
        pytest.approx(low, abs=0.03 * (high - low)),
        pytest.approx(high, abs=0.03 * (high - low)),
    )


def test_prompts_count_whole() -> None:
    """Four equal seeds of a prompt say no more than one: the interval must not shrink."""
    values = (normal((100, 1), 1) > 0).float()
    assert mean_interval(values.expand(100, 4)) == mean_interval(values)
    independent = mean_interval(values.expand(100, 4).reshape(400, 1))
    clustered = mean_interval(values.expand(100, 4))
    assert (clustered.high - clustered.low) / (independent.high - independent.low) == pytest.approx(2.0, rel=0.02)


def test_pairing_lowers_the_width_and_centres_on_the_difference() -> None:
    prompt = normal((120, 1), 2)
    before, after = prompt + 0.1 * normal((120, 4), 3), prompt + 0.5 + 0.1 * normal((120, 4), 4)
    paired, alone = paired_interval(before, after), mean_interval(before)
    assert paired.value == pytest.approx((after - before).mean().item(), abs=1e-12)
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)


def test_invalid_cells_are_left_out_and_never_read() -> None:
    values = torch.tensor([[1.0, math.nan], [0.0, 1.0], [math.nan, math.nan]])
    found = mean_interval(values, values.isfinite())
    assert found.value == pytest.approx(0.75)
    assert found.n == 2
    assert mean_interval(values[:2], values[:2].isfinite()) == found


def test_one_prompt_has_no_interval_and_a_share_stays_one() -> None:
    found = mean_interval(torch.tensor([[0.25]]))
    assert (found.value, found.low, found.high) == (0.25, -math.inf, math.inf)
    assert found.to_dict() == {"value": 0.25, "low": None, "high": None, "n": 1}
    assert mean_interval(torch.tensor([[0.25]]), within=(0.0, 1.0)).to_dict()["high"] == 1
    almost = mean_interval(torch.tensor([[1.0]] * 9 + [[0.0]]), within=(0.0, 1.0))
    assert almost.high == 1 and 0.6 < almost.low < 0.9


def test_agreement_has_width_zero_and_nothing_judged_is_an_error() -> None:
    found = mean_interval(torch.ones(30, 4))
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    with pytest.raises(RunError, match="no sample could be judged"):
        mean_interval(torch.ones(3, 2), torch.zeros(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="not pairs"):
        paired_interval(torch.ones(3, 2), torch.ones(3, 3))
