"""A reward that can be read: clauses with weights learned from people, and what each clause gave to each score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.protocols import Reward
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import spec_of
from limner.objectives.logistic import attribution, fit_bradley_terry

Columns = Mapping[str, Float[Tensor, " samples"]]
"""Clauses by name: the components of a judge."""


@dataclass(frozen=True)
class FittedClauses:
    """Weights of clauses, each with one standard error, in log-odds of being preferred per unit of the clause."""

    weights: Mapping[str, float]
    standard_errors: Mapping[str, float]
    loss: float
    """Mean negative log-likelihood of the pairs in nats; log 2 = 0.693 is a coin's."""
    num_pairs: int


def fit_clauses(first: Columns, second: Columns, won: Float[Tensor, " pairs"], ridge: float = 1e-3) -> FittedClauses:
    """Return the weights w of P(first preferred) = sigmoid(sum_k w_k (first_k - second_k)), fitted to preferences.

    `first` and `second` are the components of one judge on either side of each pair; `won` is the share of people who
    preferred the first, a tie 1/2. A pair with a clause that is not known (NaN) on a side is left out. `ridge` (a prior
    of standard deviation ridge^-1/2 log-odds) keeps a clause that never differs at 0 instead of anywhere.
    Raises UserError if the sides have other clauses, no pair is complete, or the data do not determine the weights.
    """
    if first.keys() != second.keys() or not first:
        raise UserError(f"clauses: both sides must have the same ones, got {sorted(first)} and {sorted(second)}")
    difference = torch.stack([first[name].double() - second[name].double() for name in first], 1)
    known = difference.isfinite().all(1) & won.isfinite()
    if not known.any():
        raise UserError(f"clauses: none of {len(known)} pairs has every clause on both sides; there is nothing to fit")
    try:
        fitted = fit_bradley_terry(difference[known], won[known], ridge)
    except ValueError as error:
        raise UserError(f"clauses: {error}") from error
    weights, errors = fitted.weights.tolist(), fitted.standard_error.tolist()
    named = dict(zip(first, weights, strict=True)), dict(zip(first, errors, strict=True))
    return FittedClauses(*named, float(fitted.loss), int(known.sum()))


@dataclass(frozen=True)
class WeightedClauses:
    """Score by clauses: sum_k w_k (c_k - baseline_k) of the components c of `judge`; its components are the terms.

    The terms of a sample add up to its score exactly: they are what is added, in their order. The unit is log-odds, so
    that sigmoid(score_a - score_b) is the probability that a person prefers a. `baseline` (0 where not named) says
    compared with what a term is counted. A sample that the judge refused, or with a clause that is NaN, is invalid.
    """

    judge: Reward
    weights: Mapping[str, float]
    baseline: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.weights:
            raise UserError("clauses: no weight; fit them first (limner.rewards.checklist.fit_clauses)")
        for name in self.baseline.keys() - self.weights.keys():
            raise UserError(f"clauses: the baseline of {name!r} has no weight{nearest(name, self.weights)}")

    @property
    def spec(self) -> RewardSpec:
        """Its description: what it reads is what the judge reads."""
        inner = spec_of("a judge", self.judge)
        terms = {name: f"{w:+.3g} x ({name} - {self.baseline.get(name, 0.0):.3g})" for name, w in self.weights.items()}
        return RewardSpec(
            name="checklist",
            about=f"the weighted clauses of {inner.name}",
            unit="log-odds of being preferred",
            needs=inner.needs,
            axes=inner.axes,
            components=terms,
            deterministic=inner.deterministic,
            version=f"{inner.version}-{dict(sorted(self.weights.items()))}-{dict(sorted(self.baseline.items()))}",
            source="Bradley-Terry with features; VisionReward, arXiv:2412.21059",
            weights_licence=inner.weights_licence,
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        output = self.judge(media, prompts)
        if not isinstance(output, RewardOutput):
            raise UserError("clauses: the judge returns scores without components, so there are no clauses to weigh")
        for name in self.weights.keys() - output.components.keys():
            raise UserError(f"clauses: the judge reports no {name!r}{nearest(name, output.components)}")
        clauses = torch.stack([output.components[name].double() for name in self.weights], 1)
        baseline = [self.baseline.get(name, 0.0) for name in self.weights]
        weights = torch.tensor(list(self.weights.values()), dtype=torch.float64)
        terms = attribution(weights, clauses, torch.tensor(baseline, dtype=torch.float64)).float()
        score = torch.zeros(len(terms))
        for term in terms.T:
            score = score + term
        valid = output.valid & score.isfinite()
        named = dict(zip(self.weights, terms.T, strict=True))
        return RewardOutput(score.masked_fill(~valid, torch.nan), valid, named, explanation=output.explanation)
