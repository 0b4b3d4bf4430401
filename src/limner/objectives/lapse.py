"""Choices that a lead says nothing of: where a reward has misread a picture, it is as likely to be wrong as right.

An error that is normal moves a lead a little; a thing taken for another moves it anywhere. A reward that misreads some
pictures, and the others hardly, is surer of small leads than the former allows, and less sure of large ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


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
