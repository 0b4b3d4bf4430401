"""The rewards of the oracle worlds, functions of the point itself."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardSpec
from limner.judging.spec import declare
from limner.worlds.oracle.model import Points
from limner.worlds.oracle.tokens import Sequences, number, rewards
from limner.worlds.oracle.world import WORLDS

SOURCE = "limner's design, section 8: oracle worlds"


@declare(
    RewardSpec(
        "o1",
        "the reward of the Gaussian tilt, a . x",
        axes=("position",),
        differentiable=True,
        source=SOURCE,
    )
)
def o1(media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return the reward of the Gaussian tilt, a . x."""
    return WORLDS["o1"].score(_points(media))


@declare(
    RewardSpec(
        "o2",
        "the reward of the quadratic tilt, a . x - x' C x / 2",
        axes=("position",),
        differentiable=True,
        source=SOURCE,
    )
)
def o2(media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return the reward of the quadratic tilt, a . x - x' C x / 2."""
    return WORLDS["o2"].score(_points(media))


@declare(
    RewardSpec(
        "o3",
        "the reward of the mixture tilt, that of the nearest mode",
        low=0.0,
        high=1.0,
        axes=("position",),
        source=SOURCE,
    )
)
def o3(media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return the reward of the mixture tilt, that of the nearest mode."""
    return WORLDS["o3"].score(_points(media))


@declare(
    RewardSpec(
        "o4",
        "the reward of a sequence of four tokens, from a table",
        low=0.0,
        high=1.0,
        axes=("sequence",),
        source=SOURCE,
    )
)
def o4(media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return the reward of a sequence of four tokens, from a table."""
    if not isinstance(media, Sequences):
        raise UserError(f"o4 judges sequences of tokens, not {type(media).__name__}: it is for its own oracle")
    return rewards().to(media.tokens.device)[number(media.tokens)]


def _points(media: Media) -> Float[Tensor, "batch 2"]:
    if not isinstance(media, Points):
        raise UserError(f"an oracle's reward judges points, not {type(media).__name__}: take --model.kind oracle")
    return media.position
