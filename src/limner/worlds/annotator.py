"""Oracle O7: an annotator whose taste, noise, ties and lapses are known, so that nobody can know better than Bayes.

With u the utility of a sample, d = (u_a - u_b) / noise, and a `random` share of answers that are not about the samples,

    P(a is better) = (1 - random) sigmoid(d - ties) + random / 2
    P(b is better) = (1 - random) sigmoid(-d - ties) + random / 2,        P(a tie) is the rest

That is Bradley and Terry's model where `ties` is 0, else Rao and Kupper's, whose threshold is e^ties.

Source: Bradley and Terry, 1952; Rao and Kupper, 1967.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.protocols import Reward
from limner.core.rng import fixed_share
from limner.core.settings import Natural, NotNegative, Positive, Share, settings
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.checked import Checked
from limner.worlds.oracle.reward import o1, o2, o3
from limner.worlds.scenes.reward import scenes, scenes_fraction

UTILITIES: Mapping[str, Reward] = {
    "o1": o1,
    "o2": o2,
    "o3": o3,
    "scenes": scenes,
    "scenes_fraction": scenes_fraction,
}


class Answers(NamedTuple):
    """How likely each answer about a pair is."""

    first: Float[Tensor, " pairs"]
    tie: Float[Tensor, " pairs"]
    second: Float[Tensor, " pairs"]


@settings
class Annotator:
    """An annotator by Bradley-Terry, with known utility, noise, ties and lapses; says which of two samples is better.

    It is a comparer, as in win_rate(annotator(of="scenes_fraction", noise=0.3)). Asked about the same pair again, in
    either order, it says the same; another `seed` is another person of the same taste.
    """

    of: str = "scenes_fraction"
    """The utility: what is better by it is better."""
    noise: Positive = 1.0
    """The difference of utilities that 73 % of answers see, where there are no ties and no lapses."""
    ties: NotNegative = 0.0
    """How far apart, in units of `noise`, two samples have to be for more than half of the answers to tell them."""
    random: Share = 0.0
    """The share of answers that are drawn by a coin."""
    seed: Natural = 0

    def __post_init__(self) -> None:
        if self.of not in UTILITIES:
            raise UserError(f"annotator: unknown utility {self.of!r}{nearest(self.of, UTILITIES)}")

    @property
    def spec(self) -> RewardSpec:
        """Its description."""
        return RewardSpec(
            name="annotator",
            about=f"a simulated annotator who prefers what is better by {self.of}, with noise, ties and lapses",
            low=0.0,
            high=1.0,
            unit="share of wins",
            needs=("prompt",),
            version=f"{self.of} {self.noise:g} {self.ties:g} {self.random:g} {self.seed}",
            source="Bradley and Terry, 1952; Rao and Kupper, 1967",
        )

    def utility(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Return the utility of each sample."""
        return Checked(self.of, UTILITIES[self.of])(media, prompts)

    def answers(self, lead: Float[Tensor, " pairs"]) -> Answers:
        """Return the chances of each answer, by the utility of the first sample minus that of the second."""
        chance = [torch.sigmoid(d / self.noise - self.ties) for d in (lead.double(), -lead.double())]
        first, second = ((1 - self.random) * each + self.random / 2 for each in chance)
        return Answers(first, 1 - first - second, second)

    def bayes(self, lead: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """Return how often, of the answers that are no ties, whoever knows the utilities foretells the right one."""
        chance = self.answers(lead)
        return torch.maximum(chance.first, chance.second) / (chance.first + chance.second)

    def compare(self, media_a: Media, media_b: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Return 1 where the first is better, 0 where the second is, 1/2 for a tie; the same samples are one."""
        return self.said(self.utility(media_a, prompts), self.utility(media_b, prompts), media_a, media_b, prompts)

    def said(
        self, a: RewardOutput, b: RewardOutput, media_a: Media, media_b: Media, prompts: Sequence[Prompt]
    ) -> RewardOutput:
        """Return the same for utilities `a` and `b` of any kind."""
        seen = [_names(media) for media in (media_a, media_b)]
        asked = [(*sorted(pair), prompt.text) for pair, prompt in zip(zip(*seen, strict=True), prompts, strict=True)]
        mirrored = torch.tensor([x > y for x, y in zip(*seen, strict=True)])
        chance = self.answers(torch.where(mirrored, -1, 1) * (a.score - b.score))
        drawn = torch.tensor([fixed_share(repr((self.seed, each))) for each in asked], dtype=torch.float64)
        won = torch.where(drawn < chance.first, 1.0, torch.where(drawn < 1 - chance.second, 0.5, 0.0))
        won = torch.where(mirrored, 1 - won, won)
        one = torch.tensor([x == y for x, y in zip(*seen, strict=True)]) & (a.score == b.score)
        return RewardOutput(won.masked_fill(one, 0.5), a.valid & b.valid)


def _names(media: Media) -> list[str]:
    """Return a name for each sample: the same for the same picture."""
    return [hashlib.blake2b(still.numpy().tobytes(), digest_size=8).hexdigest() for still in media.stills()]
