"""A judge of one's own that compares: which of two pictures is redder; and how it says that it cannot tell.

    limner train scenes --reward "win_rate(examples/my_comparer.py:redder)" --evaluation.reward scenes --steps 10

A comparer is asked about every pair of a group, and `win_rate` is the share of its pairs that a sample wins.
"""

from dataclasses import dataclass

import torch

from limner import JudgeFailure, RewardOutput
from limner.core.types import RewardSpec


@dataclass(frozen=True)
class Redder:
    margin: float = 0.002  # closer pairs are a tie

    @property
    def spec(self):
        return RewardSpec("redder", "which of two pictures is redder", low=0, high=1, unit="share of wins")

    def compare(self, media_a, media_b, prompts):
        a, b = (redness(media) for media in (media_a, media_b))
        if a.isnan().all():
            raise JudgeFailure("no picture has any light")  # none of these pairs is judged, and the run goes on
        won = torch.where((a - b).abs() < self.margin, 0.5, (a > b).float())
        return RewardOutput(won, valid=a.isfinite() & b.isfinite())  # a pair with a black picture counts for neither


def redness(media):
    red, green, blue = media.frames()[:, 0].mean((2, 3)).unbind(1)
    return red / (red + green + blue)  # 0 / 0 is NaN: nothing can be said of a black picture


redder = Redder()
