"""Symmetry: how much the picture looks like its own mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.types import Prompt, RewardSpec

AXES = {"vertical": (-1,), "horizontal": (-2,), "point": (-2, -1)}
"""What is flipped: left and right, top and bottom, or both (half a turn)."""


@dataclass(frozen=True)
class Symmetry:
    """Score 1 - mean |x - mirror(x)| over pixels and channels, the mean over frames, in [0, 1].

    `axis` is the mirror's: "vertical" compares left with right, "horizontal" top with bottom, "point" half a turn. A
    picture of one colour is perfectly symmetric: combine it with a reward that wants something to be seen.
    Raises UserError for another axis.
    """

    axis: str = "vertical"

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise UserError(f"symmetry: unknown axis {self.axis!r}{nearest(self.axis, AXES)}")

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "symmetry",
            "how much the picture looks like its own mirror image; 1 is perfect",
            low=0.0,
            high=1.0,
            differentiable=True,
            source="mean absolute difference from the mirror image",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
        frames = media.frames()
        return 1 - (frames - frames.flip(AXES[self.axis])).abs().flatten(1).mean(1)
