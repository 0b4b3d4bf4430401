"""What a reward says about itself, for people, for tests that hold for all of them, and for caches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from limner.core.protocols import Reward
from limner.core.types import Media, Prompt, RewardOutput

MAP_SIDE = 32
"""Most rows and columns of a map: it travels and is kept with every score."""


@dataclass(frozen=True)
class RewardSpec:
    """A reward's static description. Higher is always better.

    `low` and `high` bound the raw score, in `unit`. `needs` names what it reads beside the media: "prompt", "reference"
    or "meta.KEY". `axes` are those of the media that it reads: C, H, W, and T for time. `components` says what each
    named number means, with its range, and `maps` what each map shows. `version` changes whenever an equal input may
    get another score.
    """

    name: str
    about: str
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    needs: tuple[str, ...] = ()
    axes: tuple[str, ...] = ("C", "H", "W")
    components: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, str] = field(default_factory=dict)
    differentiable: bool = False
    deterministic: bool = True
    version: str = "1"
    source: str = ""
    code_licence: str = "Apache-2.0"
    weights_licence: str = ""
    """Empty: it has no weights."""


@runtime_checkable
class Specified(Protocol):
    """A reward that describes itself."""

    @property
    def spec(self) -> RewardSpec: ...


@runtime_checkable
class Comparer(Protocol):
    """A judge that compares instead of scoring; what is not comparable by it is not `valid`."""

    @property
    def spec(self) -> RewardSpec: ...

    def compare(self, media_a: Media, media_b: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Return P(a is better than b), in [0, 1], for each pair of samples made for one prompt; a tie counts half."""
        ...


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


def spec_of(name: str, reward: Reward) -> RewardSpec:
    """Return what a reward says about itself; of one that says nothing, that it is called `name`."""
    return reward.spec if isinstance(reward, Specified) else RewardSpec(name, "a function of yours", version="")


def coarse(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch rows columns"]:
    """Return maps of at most `MAP_SIDE` rows and columns, each cell the mean of its pixels."""
    rows, columns = (min(side, MAP_SIDE) for side in maps.shape[-2:])
    return adaptive_avg_pool2d(maps.detach(), (rows, columns))
