"""A simulated person who likes colourful pictures, and errs: whom loops of few votes ask (`rounds.py`).

    limner loop scenes --annotator "win_rate(benchmarks/person.py:person_3)"

`grey_0` has the opposite taste.

Her answers are those of oracle O7 about the utilities `colourfulness` says, so that how good she is can be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from limner.core.media import Media
from limner.core.settings import Natural, Positive, settings
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.checked import Checked
from limner.rewards.colourfulness import colourfulness
from limner.worlds.annotator import Annotator


@settings
class Person:
    """Who of two pictures prefers the more colourful one, by Bradley and Terry."""

    noise: Positive = 10.0
    """The difference of colourfulness that 73 % of answers see."""
    seed: Natural = 0
    """Another seed is another person of the same taste."""
    likes: Literal[1, -1] = 1
    """-1: who likes grey pictures."""

    @property
    def spec(self) -> RewardSpec:
        """What it is."""
        liked = "colourful" if self.likes > 0 else "grey"
        return RewardSpec("person", f"a simulated person who likes {liked} pictures", 0.0, 1.0, "share of wins")

    def compare(self, media_a: Media, media_b: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Return 1 where the first is preferred, and 0 where the second is."""
        judge = Checked("colourfulness", colourfulness)
        a, b = (judge(media, prompts) for media in (media_a, media_b))
        a, b = (replace(each, score=self.likes * each.score) for each in (a, b))
        return Annotator(noise=self.noise, seed=self.seed).said(a, b, media_a, media_b, prompts)


(
    person_0, person_1, person_2, person_3, person_4, person_5,
    person_6, person_7, person_8, person_9, person_10, person_11,
) = (Person(seed=seed) for seed in range(12))  # fmt: skip
grey_0 = Person(seed=100, likes=-1)
