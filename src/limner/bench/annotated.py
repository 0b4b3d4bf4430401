"""Pairs without end: the base of an oracle world draws them, and an annotator of known taste compares them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.rng import Rng
from limner.core.settings import settings
from limner.core.types import Scored
from limner.training.source import Phase, Studio, given
from limner.worlds.annotator import Annotator
from limner.worlds.oracle.model import Points
from limner.worlds.oracle.world import WORLDS, Mixture, prompts


@settings
class Annotated:
    """A source of preferences that has no end, as infinite data are what an optimum is stated for."""

    annotator: Annotator = Annotator("o1")

    draws: ClassVar[bool] = False

    def scored(
        self, studio: Studio, step: int, count: int, rng: Rng, phase: Phase, memory: dict[str, Any] | None = None
    ) -> Scored:
        """Draw `count` pairs, never seen before, and ask which is better; each is a group."""
        mine = torch.tensor(studio.team.share(count))
        a, b = (drawn(WORLDS[self.annotator.of].base, len(mine), rng.child("pairs", side)) for side in "ab")
        asked = prompts("train") * len(mine)
        won = self.annotator.compare(Points(a), Points(b), asked).score
        group = mine.repeat_interleave(2)
        id = 2 * group + torch.arange(2).repeat(len(mine))
        worth = torch.stack([won, 1 - won], 1).flatten()
        latents = studio.encode(Points(torch.stack([a, b], 1).flatten(0, 1)))
        return given(studio, [each for each in asked for _ in "ab"], latents, worth, group, id, step)


def drawn(base: Mixture, count: int, rng: Rng) -> Float[Tensor, "count dim"]:
    """Return independent samples of a mixture."""
    generator = rng.generator()
    mode = torch.multinomial(base.weights, count, replacement=True, generator=generator)
    return base.means[mode] + base.std * torch.randn(count, base.means.shape[1], generator=generator)
