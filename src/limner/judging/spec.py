"""How a function becomes a reward that describes itself, and what such rewards share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from limner.core.media import Media
from limner.core.protocols import Comparer, Reward, Specified
from limner.core.types import Prompt, RewardOutput, RewardSpec

MAP_SIDE = 32
"""Most rows and columns of a map: it travels and is kept with every score."""


@dataclass(frozen=True)
class Declared:
    """A function with its spec: what `declare` makes of it."""

    spec: RewardSpec
    function: Reward

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> Tensor | RewardOutput:
        return self.function(media, prompts)


def declare(spec: RewardSpec) -> Callable[[Reward], Declared]:
    """Return a decorator that gives a function its spec."""
    return lambda function: Declared(spec, function)


def spec_of(name: str, reward: Reward | Comparer) -> RewardSpec:
    """Return what a reward says about itself; of one that says nothing, that it is called `name`."""
    return reward.spec if isinstance(reward, Specified) else RewardSpec(name, "a function of yours", version="")


def joint_spec(expression: str, specs: Sequence[RewardSpec], absolute: bool) -> RewardSpec:
    """Return what is known of an expression of judges: it needs what they need, and can do what they all can.

    One that is not `absolute` depends on more than the sample, and so has no gradient of its own.
    """
    return RewardSpec(
        name=expression,
        about=f"the expression {expression}",
        needs=tuple(dict.fromkeys(need for spec in specs for need in spec.needs)),
        axes=tuple(dict.fromkeys(axis for spec in specs for axis in spec.axes)),
        differentiable=absolute and all(spec.differentiable for spec in specs),
        deterministic=all(spec.deterministic for spec in specs),
        elsewhere=any(spec.elsewhere for spec in specs),
        version=", ".join(spec.version for spec in specs),
    )


def coarse(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch rows columns"]:
    """Return maps of at most `MAP_SIDE` rows and columns, each cell the mean of its pixels."""
    rows, columns = (min(side, MAP_SIDE) for side in maps.shape[-2:])
    return adaptive_avg_pool2d(maps.detach(), (rows, columns))
