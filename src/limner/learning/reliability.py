"""Groups that are believed more than others: BPGO's two halves, and the forms of them that survive a shift or noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Algorithm, Context
from limner.core.settings import NotNegative, Positive, Range, settings
from limner.core.types import Scored
from limner.objectives.reliability import (
    contrasted,
    contrasted_as_published,
    group_moments,
    posterior_above,
    signal_share,
)


@settings
class Reliability:
    """How much each group counts, and how rewards are told apart from what their prompt has earned before.

    The advantages of a group are multiplied by 1 + `alpha` (w - 1), w = `least` + (`most` - `least`) p. A prompt's
    prior R0 is the mean of its rewards so far, or of its `first` group; a prompt that is met for the first time has
    none, and is left as it is (the log counts such groups, `unknown_prior`).
    Source: BPGO in TeleBoost's published code; w "signal" and `transform` "invariant" are ours.
    """

    alpha: Annotated[float, Range(least=0, most=1)] = 0.0
    """How far the weight w replaces 1; 0: all groups count alike."""
    weight: Literal["posterior", "signal"] = "posterior"
    """What p is: the probability that the group is better than its prior, or the share of its variance that is no noise
    of the judge's."""
    least: NotNegative = 0.5
    most: Positive = 1.5
    prior: Literal["running", "first"] = "running"
    """Which rewards of a prompt are its prior: all of earlier iterations, or those of its first group."""
    prior_std: Positive = 1.0
    """How sure the prior is, in the reward's own unit."""
    noise: NotNegative = 0.0
    """Standard deviation of the judge's own noise, in the reward's unit; for weight signal."""
    uncertainty: str = ""
    """The column in which the judge says its own, as in judge/uncertainty, if it does; for weight signal."""
    transform: Literal["none", "published", "invariant"] = "none"
    """What becomes of rewards before they are compared: nothing, BPGO's transform, which multiplies by the reward, or
    the one that no shift changes."""
    slope: NotNegative = 1.0
    """a of the transform."""
    temperature: Positive = 1.0
    """tau of the transform, in the reward's own unit."""

    def __post_init__(self) -> None:
        if self.alpha and self.weight == "signal" and not (self.noise or self.uncertainty):
            raise UserError(
                "reliability.noise is 0: weight signal needs the standard deviation of the judge's noise, or "
                "reliability.uncertainty, the column in which it says its own"
            )
        if self.least > self.most:
            raise UserError(f"reliability.least {self.least} must not be above reliability.most {self.most}")

    @property
    def off(self) -> bool:
        """Whether all groups count alike, by their rewards as they are."""
        return self.alpha == 0 and self.transform == "none"


def reliable_advantage(
    reliability: Reliability, algorithm: Algorithm, scored: Scored, context: Context
) -> tuple[Tensor, dict[str, float]]:
    """Return the algorithm's advantage of transformed rewards, weighed by group, and what is logged of the weights.

    It remembers rewards by prompt in `context.memory`.
    """
    if reliability.off:
        return algorithm.advantage(scored, context), {}
    prior = _priors(reliability, scored, context.memory.setdefault("reliability", {}))
    known = prior.isfinite()
    total = torch.where(known, _transformed(reliability, scored.total, prior), scored.total)
    advantage = algorithm.advantage(replace(scored, total=total), context)
    weight = torch.where(known, _weights(reliability, scored, prior), 1.0)
    shaped = weight.to(advantage).view(-1, *(1,) * (advantage.ndim - 1))
    unknown = len(scored.rollout.group[~known].unique())
    logged = {"group_weight/mean": weight.mean().item(), "group_weight/std": weight.std(correction=0).item()}
    return advantage * shaped, logged | {"unknown_prior": float(unknown)}


def _transformed(reliability: Reliability, total: Tensor, prior: Tensor) -> Tensor:
    match reliability.transform:
        case "none":
            return total
        case "published":
            return contrasted_as_published(total, prior, reliability.slope, reliability.temperature)
        case "invariant":
            return contrasted(total, prior, reliability.slope, reliability.temperature)
    assert_never(reliability.transform)


def _weights(reliability: Reliability, scored: Scored, prior: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    count, mean, variance = group_moments(scored.total, scored.rollout.group, scored.valid)
    if reliability.weight == "signal":
        square = _noise(reliability, scored).square()
        p = signal_share(variance, group_moments(square, scored.rollout.group, scored.valid)[1])
    else:
        p = posterior_above(count, mean, variance, prior, reliability.prior_std)
    w = reliability.least + (reliability.most - reliability.least) * p
    return 1 + reliability.alpha * (w - 1)


def _noise(reliability: Reliability, scored: Scored) -> Float[Tensor, " batch"]:
    """Return the standard deviation of the judge's noise about each sample."""
    if not reliability.uncertainty:
        return torch.full_like(scored.total, reliability.noise)
    if reliability.uncertainty not in scored.rewards:
        known = ", ".join(scored.rewards)
        raise UserError(f"reliability.uncertainty: no column {reliability.uncertainty!r} (there are: {known})")
    return scored.rewards[reliability.uncertainty]


def _priors(reliability: Reliability, scored: Scored, memory: dict[str, Any]) -> Float[Tensor, " batch"]:
    """Return the prior of each sample's prompt, NaN where there is none; remember what it earns now."""
    texts = [prompt.text for prompt in scored.rollout.prompt_of()]
    known = {text: total / count for text, (total, count) in memory.items()}
    for text in dict.fromkeys(texts):
        if reliability.prior == "first" and text in known:
            continue
        rows = torch.tensor([each == text for each in texts]) & scored.valid
        if rows.any():
            total, count = memory.get(text, (0.0, 0))
            memory[text] = [total + scored.total[rows].sum().item(), count + int(rows.sum())]
    return torch.tensor([known.get(text, torch.nan) for text in texts], dtype=torch.float64)
