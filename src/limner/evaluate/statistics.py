"""How sure a mean is: percentile bootstrap over prompts."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limner.core.errors import RunError
from limner.core.rng import Rng
from limner.report.data import Interval

DRAWS = 10_000
LEVEL = 0.95
CHUNK = 2**22
"""Resampled values held at once."""


def bootstrap(
    values: Float[Tensor, "prompts seeds"],
    valid: Bool[Tensor, "prompts seeds"] | None = None,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the mean over prompts of each prompt's mean, and its percentile interval from resampled prompts.

    Seeds of one prompt are not independent, so prompts are drawn whole, with replacement. What is not `valid` is left
    out; a prompt with nothing valid is left out too, and n counts the prompts that remain. If all prompts agree the
    interval has width zero: the bootstrap cannot see what was never sampled.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    means = prompt_means(values, valid)
    n = means.shape[0]
    if n == 0:
        raise RunError("no sample could be judged, so there is nothing to average: see the reward's own messages")
    generator = Rng((seed, "bootstrap")).generator()
    rows = max(1, CHUNK // n)
    parts = [min(rows, draws - start) for start in range(0, draws, rows)]
    resampled = torch.cat([means[torch.randint(n, (part, n), generator=generator)].mean(1) for part in parts])
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(resampled, tails).tolist()
    return Interval(means.mean().item(), low, high, n)


def paired_bootstrap(
    before: Float[Tensor, "prompts seeds"],
    after: Float[Tensor, "prompts seeds"],
    valid: Bool[Tensor, "prompts seeds"] | None = None,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the mean of after - before at equal prompts and seeds, with its interval; valid means valid in both."""
    if before.shape != after.shape:
        raise ValueError(f"before is {tuple(before.shape)} but after is {tuple(after.shape)}: they are not pairs")
    return bootstrap(after.double() - before.double(), valid, draws=draws, level=level, seed=seed)


def prompt_means(
    values: Float[Tensor, "prompts seeds"], valid: Bool[Tensor, "prompts seeds"] | None = None
) -> Float[Tensor, " judged"]:
    """Return each prompt's mean over its valid seeds, float64, without the prompts that have none."""
    if valid is None:
        return values.double().mean(1)
    kept = valid.any(1)
    total = torch.where(valid, values, 0).double().sum(1)
    return total[kept] / valid.sum(1)[kept]
