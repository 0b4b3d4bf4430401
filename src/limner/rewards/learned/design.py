"""What can be chosen about the networks of a learned reward."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from limner.core.errors import UserError
from limner.core.settings import Count, Natural, Range, settings
from limner.objectives.choice import Ties
from limner.rewards.learned.patches import PIXELS

Kind: TypeAlias = Literal["small", "patches", "frozen", "linear", "vlm"]


@settings
class Design:
    """How a learned reward is built: `small` is a network of its own.

    `patches` looks, as `small` does, for each word, in what a frozen network sees of each place; `frozen` is a head on
    what it sees of the whole picture; `linear` weighs that, reads no prompt, and is the one for few votes; `vlm` is a
    head on a vision-language model, which is adapted.
    """

    kind: Kind = "small"
    network: str = ""
    """Of `frozen` and `linear`, a folder or hub id of CLIP, SigLIP or DINOv2; "": EfficientNet, and MiniLM for texts.

    Of `vlm`, of an image-text-to-text model of transformers with its processor; each member holds one.
    """
    rank: Count = 16
    """Of the low-rank adapters of `vlm`."""
    edge: Count = 64
    """Pixels a side in which pictures are learned from and judged; of `patches` and `linear` a multiple of 8.

    Where a `network` sees, give its own, such as 224 of CLIP: it is shown pictures of this size, enlarged.
    """
    width: Annotated[int, Range(least=16)] = 64
    """Channels of `small` and `patches`, a multiple of 16; of `frozen`, of its hidden layer."""
    members: Count = 3
    """Networks that are trained apart: how much they differ is how unsure the reward is. Of `linear` they cost nothing.
    """
    gaussian: bool = False
    """Whether each worth has a spread of its own, as HPSv3's have."""
    ties: Ties = "davidson"
    """How ties come about: davidson, rao_kupper (VideoReward's), or bradley_terry: each is half a vote for both."""
    tastes: Natural = 0
    """In how many ways people may differ: 0, all are of one taste; 1, from one taste to its opposite."""

    motion: bool = False
    """Whether a frame of a clip is judged by what has changed since the one before, too, and not by itself."""

    def __post_init__(self) -> None:
        if self.network and self.kind not in ("frozen", "linear", "vlm"):
            raise UserError(
                f"a learned reward of kind {self.kind} has a network of its own: give --design.kind frozen, linear or "
                "vlm"
            )
        if self.kind == "linear" and (self.gaussian or self.tastes or self.motion):
            raise UserError(
                "a linear learned reward has one taste, the posterior of its weights for a spread, and no eye for "
                "motion: leave design.gaussian, design.tastes and design.motion out, or give --design.kind frozen"
            )
        if self.kind == "vlm" and not self.network:
            raise UserError("a learned reward of kind vlm stands on a model: give its folder as --design.network")
        if self.kind == "vlm" and self.motion:
            raise UserError("a learned reward of kind vlm is asked about each frame by itself: leave design.motion out")
        if self.kind in ("patches", "linear") and self.edge % PIXELS:
            raise UserError(
                f"a learned reward of kind {self.kind} sees {PIXELS} pixels a side of each patch: edge {self.edge} is "
                "no multiple of that"
            )
