"""How sure a mean over prompts is: Student's t."""

from __future__ import annotations

import math

from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit
from torch import Tensor, arange, where, zeros

from limner.core.errors import RunError
from limner.report.data import Interval

LEVEL = 0.95


def mean_interval(
    values: Float[Tensor, "prompts seeds"],
    valid: Bool[Tensor, "prompts seeds"] | None = None,
    *,
    prompt: Int[Tensor, " prompts"] | None = None,
    level: float = LEVEL,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Return the mean over prompts of each prompt's mean, and the interval mean +- t(n - 1) s / sqrt(n).

    Seeds of one prompt are not independent, so each prompt counts once, by the mean of its seeds; s is the standard
    deviation of those n means (n - 1). What is not `valid` is left out; a prompt with nothing valid is left out too,
    and n counts the prompts that remain. Rows of one `prompt` are that prompt asked again: with c_k of them and their
    mean m_k, the mean is sum c_k m_k / sum c_k, and s^2 / n is n / (n - 1) sum (c_k / sum c)^2 (m_k - mean)^2 over n
    different prompts. `within` is what a mean can be, and cuts the interval. One prompt has no
    interval but that; if several agree its width is zero: it cannot see what was never sampled.

    How often its 95 % hold the true mean in 2,000 trials, and beside it the percentile bootstrap's:

        prompts                     2          3          5          10         30         112
        normal                      .96 .50    .95 .74    .95 .83    .96 .91    .95 .94    .95 .94
        after - before of 0 or 1    .90 .84    .98 .94    .97 .87    .96 .92    .95 .94    .95 .95
        exponential                 .92 .49    .88 .70    .89 .79    .90 .86    .93 .92    .93 .93

    Source: Student, The probable error of a mean, Biometrika 6 (1908); of prompts that are asked more often, the
    variance of a weighted mean over clusters, Cochran, Sampling Techniques (1977), section 6.
    """
    means = prompt_means(values, valid)
    if means.shape[0] == 0:
        raise RunError("no sample could be judged, so there is nothing to average: see the reward's own messages")
    mean = means.mean().item()
    kept = arange(len(values)) if prompt is None else prompt
    different, place = (kept if valid is None else kept[valid.any(1)]).unique(return_inverse=True)
    n = len(different)
    apart = zeros(n, dtype=means.dtype).index_add_(0, place, means - mean) / len(means)
    error = math.sqrt(n / (n - 1) * apart.square().sum().item()) if n > 1 else math.inf
    reach = float(stdtrit(n - 1, (1 + level) / 2)) * error if n > 1 else math.inf
    return Interval(mean, max(mean - reach, within[0]), min(mean + reach, within[1]), n)


def paired_interval(
    before: Float[Tensor, "prompts seeds"],
    after: Float[Tensor, "prompts seeds"],
    valid: Bool[Tensor, "prompts seeds"] | None = None,
    *,
    prompt: Int[Tensor, " prompts"] | None = None,
    level: float = LEVEL,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Return the mean of after - before at equal prompts and seeds, with its interval; valid means valid in both."""
    if before.shape != after.shape:
        raise ValueError(f"before is {tuple(before.shape)} but after is {tuple(after.shape)}: they are not pairs")
    return mean_interval(after.double() - before.double(), valid, prompt=prompt, level=level, within=within)


def prompt_means(
    values: Float[Tensor, "prompts seeds"], valid: Bool[Tensor, "prompts seeds"] | None = None
) -> Float[Tensor, " judged"]:
    """Return each prompt's mean over its valid seeds, float64, without the prompts that have none."""
    if valid is None:
        return values.double().mean(1)
    kept = valid.any(1)
    total = where(valid, values, 0).double().sum(1)
    return total[kept] / valid.sum(1)[kept]
