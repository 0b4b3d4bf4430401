"""What the worths of a learned reward are in nats, and how wrong they may be: by votes that it was not trained on.

Votes that go less by worths than these say may mean that the scale is smaller, or that the worths are wrong. Pictures
that stand in several pairs tell one from the other, and so both are fitted to the same votes at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import logsigmoid

from limner.objectives.choice import discounted
from limner.objectives.evidence import log_evidence
from limner.objectives.lapse import Lapse
from limner.objectives.logistic import fit_pair_calibration
from limner.rewards.learned.network import Worth
from limner.training.judgements import Judgements, voters
from limner.training.reward_model import Worths

LEAST = 1e-2
"""The scale of worths that order votes no better than chance."""
MOST = 5.0
"""Nats that all members may be wrong by."""
RIDGE = 1e-3
"""On the scale's square: votes that the reward foretells without error have no best one."""
TOLERANCE = 1e-7
"""Of the fit, as a share of the votes' misfit."""
SLOPES = 0.5
"""Standard deviation of log slope before any vote."""
TRUST = 10.0
"""Lapses are Beta(1, TRUST) before any vote, 1 / (1 + TRUST) on average."""
FARTHEST = (3.0, 0.95)
"""The largest log slope, either way, and the largest lapse."""
DRAWS = 256
"""About the mode of each prompt's worths."""
LOT = 64
"""Prompts that are done at once."""


class Certainty(NamedTuple):
    """What worths are multiplied by to be nats, and the standard deviation, in nats, of an error that members share."""

    scale: float
    shared: float


def certainty(worth: Worths, on: Judgements, question: int) -> Certainty:
    """Return the likeliest scale and shared error of a question, by the votes for a side.

        u = scale x mean + e,   e ~ N(0, (scale x std)^2 + shared^2),   P(i is chosen before j) = sigmoid(u_i - u_j)

    where the sum over prompts of log_evidence(votes), less RIDGE scale^2 / 2, is greatest. The error shows in pictures
    that stand in several pairs; where there are none it is 0. A question that nobody chose a side on keeps scale 1, and
    worths that order these votes no better than chance have `LEAST`.
    """
    votes = on.votes[:, question][:, [0, 2]]
    asked = votes.sum(1) > 0
    lead, share = worth.leads(on, question).mean[asked], votes[asked, 0] / votes[asked].sum(1)
    if not bool((lead != 0).any()):
        return Certainty(1.0, 0.0)
    blurred = fit_pair_calibration(lead, share, RIDGE).slope
    learned = blurred > LEAST
    told = list(_told(worth, on, asked, question))
    several = any(each.mean.shape[1] < 2 * each.pairs.shape[1] for each in told)
    most = max(each.mean.shape[1] for each in told)
    normal = torch.randn(DRAWS, most, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def misfit(at: Float[np.ndarray, "2"]) -> float:
        scale, shared = math.exp(at[0]), float(at[1])
        found = RIDGE * scale**2 / 2
        for mean, std, pairs, said in told:
            unsure = ((scale * std).square() + shared**2 + RIDGE**2).sqrt()
            found -= float(log_evidence(scale * mean, unsure, pairs, said, normal[:, : mean.shape[1]]).sum())
        return found

    start = math.log(max(blurred, LEAST))
    bounds = [(math.log(LEAST), start + 5.0) if learned else (start, start), (0.0, MOST if several else 0.0)]
    scale, shared = minimize(
        misfit, (start, 0.5 if several else 0.0), method="L-BFGS-B", bounds=bounds, tol=TOLERANCE
    ).x
    return Certainty(math.exp(scale) if learned else LEAST, float(shared))


def lapse(worth: Worths, sure: Certainty, on: Judgements, question: int) -> Lapse:
    """Return how often votes for a side go by something else than what is foretold of a question.

    The error above is as normal as the errors of most pictures; a few are misread altogether.
    """
    return fit_lapse(foretold(worth, sure, on, question), on.votes[:, question][:, [0, 2]])


def foretold(worth: Worths, sure: Certainty, on: Judgements, question: int) -> Float[Tensor, " pairs"]:
    """Return the leads of pairs in nats, discounted for how unsure they are."""
    lead, variance = worth.leads(on, question)
    return discounted(sure.scale * lead, sure.scale**2 * variance + 2 * sure.shared**2)


def fit_lapse(lead: Float[Tensor, " pairs"], votes: Float[Tensor, "pairs 2"]) -> Lapse:
    """Return the likeliest slope and lapse by `votes` for either side, given what is thought before any.

    So a few votes leave a lead nearly as it is, and no vote leaves it.
    """
    if not bool((votes.sum(1) * lead != 0).any()):
        return Lapse()
    lead, votes = lead.double(), votes.double()

    def misfit(at: Float[np.ndarray, "2"]) -> float:
        odds = Lapse(math.exp(at[0]), float(at[1])).log_odds(lead)
        fit = (votes[:, 0] * logsigmoid(odds) + votes[:, 1] * logsigmoid(-odds)).sum()
        return (at[0] / SLOPES) ** 2 / 2 - (TRUST - 1) * math.log1p(-at[1]) - float(fit)

    found = minimize(misfit, (0.0, 0.05), method="L-BFGS-B", bounds=[(-FARTHEST[0], FARTHEST[0]), (0.0, FARTHEST[1])]).x
    return Lapse(math.exp(found[0]), float(found[1]))


class Told(NamedTuple):
    """What the pictures of some prompts are worth, and what was said of them; pairs count within a prompt."""

    mean: Float[Tensor, "prompts pictures"]
    std: Float[Tensor, "prompts pictures"]
    pairs: Int[Tensor, "prompts pairs 2"]
    votes: Float[Tensor, "prompts pairs 2"]
    """For either side."""


def _told(worth: Worths, on: Judgements, asked: Bool[Tensor, " pairs"], question: int) -> Iterator[Told]:
    """Yield what each person said about each prompt, those together that have as many pictures and pairs."""
    texts, who = on.texts_of_pairs(), voters(on, worth.people)
    alike: dict[tuple[int, int], list[Told]] = {}
    for person in who[asked].unique().tolist():
        here, to = asked & (who == person), worth.to(person)
        for text in texts[here].unique().tolist():
            one = _told_of(on, here & (texts == text), to, question)
            alike.setdefault((len(one.mean), len(one.pairs)), []).append(one)
    for each in alike.values():
        for start in range(0, len(each), LOT):
            yield Told(*(torch.stack(columns) for columns in zip(*each[start : start + LOT], strict=True)))


def _told_of(on: Judgements, rows: Bool[Tensor, " pairs"], to: Worth, question: int) -> Told:
    pictures, places = on.pairs[rows].unique(return_inverse=True)
    mean, std = (column[pictures, question].double() for column in to)
    return Told(mean, std, places, on.votes[rows, question][:, [0, 2]])
