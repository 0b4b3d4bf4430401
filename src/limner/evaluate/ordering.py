"""How well scores order pairs as people do: shares of their votes, with intervals over prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limner.evaluate.statistics import mean_interval
from limner.objectives.calibration import ReliabilityDiagram, reliability_diagram
from limner.objectives.choice import Ties, log_outcomes
from limner.report.data import Interval

UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class Ordering:
    """What is measured of scores on the votes of some pairs."""

    accuracy: Interval
    """Share of the votes for a side that went to the side which leads; ties left out."""
    with_ties: Interval
    """Share of all votes that went to the likeliest outcome: the first, a tie, the second."""
    log_loss: float
    """Of the votes for a side, in nats; log 2 says nothing."""
    reliability: ReliabilityDiagram
    votes: float
    """How many there are, ties included."""


def ordering(
    lead: Float[Tensor, " pairs"],
    votes: Float[Tensor, "pairs 3"],
    text: Int[Tensor, " pairs"],
    outcome: Int[Tensor, " pairs"],
) -> Ordering:
    """Measure calibrated leads, and their likeliest outcomes, on votes (first, tie, second).

    `text` is the prompt of each pair.
    """
    sides = votes[:, [0, 2]].double()
    asked = votes.sum(1) > 0
    chosen = sides.sum(1) > 0
    probability = torch.sigmoid(lead[chosen].double())
    share = sides[chosen, 0] / sides[chosen].sum(1)
    loss = -(share * probability.clamp(min=1e-12).log() + (1 - share) * (1 - probability).clamp(min=1e-12).log())
    return Ordering(
        by_prompt(right(lead, votes)[chosen], text[chosen]),
        by_prompt(agreed(outcome, votes)[asked], text[asked]),
        float(loss.mean()),
        # both ways round, for which side is first says nothing
        reliability_diagram(torch.cat([probability, 1 - probability]), torch.cat([share, 1 - share])),
        float(votes.sum()),
    )


def likeliest(lead: Float[Tensor, " pairs"], ties: Ties, tie: float) -> Int[Tensor, " pairs"]:
    """Return what is likeliest to be said: 0 the first, 1 a tie, 2 the second; by Bradley and Terry there is no tie."""
    if ties == "bradley_terry":
        return torch.where(lead > 0, 0, 2)
    return log_outcomes(lead.double(), ties, torch.tensor(tie, dtype=torch.float64)).argmax(1)


def right(lead: Float[Tensor, " pairs"], votes: Float[Tensor, "pairs 3"]) -> Float[Tensor, " pairs"]:
    """Return the share of the votes for a side that went to the side which leads; half if none leads."""
    sides = votes[:, [0, 2]].double()
    share = sides[:, 0] / sides.sum(1).clamp(min=1e-12)
    return torch.where(lead > 0, share, torch.where(lead < 0, 1 - share, 0.5))


def agreed(outcome: Int[Tensor, " pairs"], votes: Float[Tensor, "pairs 3"]) -> Float[Tensor, " pairs"]:
    """Return the share of all votes on a pair that went to an outcome: 0 the first, 1 a tie, 2 the second."""
    return votes.double().gather(1, outcome[:, None])[:, 0] / votes.sum(1).clamp(min=1e-12)


def swap_consistency(lead: Float[Tensor, " pairs"], swapped: Float[Tensor, " pairs"]) -> float:
    """Return the share of pairs in which the same one leads, or none, when the sides are swapped."""
    return float((lead.sign() == -swapped.sign()).double().mean())


def better(
    new: Float[Tensor, " pairs"],
    old: Float[Tensor, " pairs"],
    votes: Float[Tensor, "pairs 3"],
    text: Int[Tensor, " pairs"],
) -> Interval:
    """Return by how much more of the votes for a side the new leads are right about than the old."""
    chosen = votes[:, 0] + votes[:, 2] > 0
    gained = right(new, votes) - right(old, votes)
    return by_prompt(gained[chosen], text[chosen], (-1.0, 1.0))


def by_prompt(
    values: Float[Tensor, " pairs"], text: Int[Tensor, " pairs"], within: tuple[float, float] = UNIT
) -> Interval:
    """Return the mean over prompts of each prompt's mean over its pairs: pairs of one prompt are not independent."""
    texts, place, count = text.unique(return_inverse=True, return_counts=True)
    most = int(count.max()) if len(count) else 0
    order = place.argsort(stable=True)
    column = torch.arange(len(place)) - torch.repeat_interleave(count.cumsum(0) - count, count)
    table = torch.zeros(len(texts), most, dtype=torch.float64)
    valid: Bool[Tensor, "texts most"] = torch.zeros(len(texts), most, dtype=torch.bool)
    table[place[order], column], valid[place[order], column] = values[order].double(), True
    return mean_interval(table, valid, within=within)
