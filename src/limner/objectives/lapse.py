"""Choices that a lead says nothing of: where a reward has misread a picture, it is as likely to be wrong as right.

An error that is normal moves a lead a little; a thing taken for another moves it anywhere. A reward that misreads some
pictures, and the others hardly, is surer of small leads than the former allows, and less sure of large ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import logsigmoid

SPREAD = 0.5
"""Standard deviation of log slope before any vote."""
TRUST = 10.0
"""Lapses are Beta(1, TRUST) before any vote, 1 / (1 + TRUST) on average."""
MOST = (3.0, 0.95)
"""The largest log slope, either way, and the largest lapse."""


class Lapse(NamedTuple):
    """P(the first is chosen) = lapse / 2 + (1 - lapse) sigmoid(slope x lead).

    Source: the lapse rate of psychometric functions, Wichmann and Hill, Perception & Psychophysics 63 (2001), eq. 1,
    with chance at 1/2 and lapses as frequent on either side.
    """

    slope: float = 1.0
    lapse: float = 0.0

    def log_odds(self, lead: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """Return log P / (1 - P), in nats: the lead that would be chosen as often if nothing lapsed."""
        if self.lapse == 0:
            return self.slope * lead
        chance, stays = (lead.new_tensor(each).log() for each in (self.lapse / 2, 1 - self.lapse))
        first, second = (torch.logaddexp(chance, stays + logsigmoid(side * self.slope * lead)) for side in (1, -1))
        return first - second


def fit_lapse(lead: Float[Tensor, " pairs"], votes: Float[Tensor, "pairs 2"]) -> Lapse:
    """Return the likeliest slope and lapse by `votes` for either side, given what is thought before any (above).

    So a few votes leave a lead nearly as it is, and no vote leaves it.
    """
    if not bool((votes.sum(1) * lead != 0).any()):
        return Lapse()
    lead, votes = lead.double(), votes.double()

    def misfit(at: Float[np.ndarray, "2"]) -> float:
        odds = Lapse(math.exp(at[0]), float(at[1])).log_odds(lead)
        fit = (votes[:, 0] * logsigmoid(odds) + votes[:, 1] * logsigmoid(-odds)).sum()
        return (at[0] / SPREAD) ** 2 / 2 - (TRUST - 1) * math.log1p(-at[1]) - float(fit)

    found = minimize(misfit, (0.0, 0.05), method="L-BFGS-B", bounds=[(-MOST[0], MOST[0]), (0.0, MOST[1])]).x
    return Lapse(math.exp(found[0]), float(found[1]))
