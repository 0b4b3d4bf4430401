"""o5, the one-step world: a generator y = A z + b of points, affine in z, so that all it draws is Gaussian.

With y = A z + b + noise n, z ~ N(mean, std^2 I), it draws N(A mean + b, std^2 A A' + noise^2 I), and o2's quadratic
reward r(y) = a . y - y' C y / 2 has a mean in closed form, and a gradient. The best under a penalty follows, too, with
beta its weight and A0, b0 the base's:

    what comes out (A, b learn)       A z + b = (C + beta / noise^2 I)^-1 (a + beta / noise^2 (A0 z + b0)) for every z
    what goes in (mean, std learn)    mean = (A'CA + beta I)^-1 A' (a - C b),  std^2 = beta D / (tr(A'CA) + beta D)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.types import Condition, LatentSpec, Prompt, Source
from limner.diffusion.gaussian import Gaussian
from limner.worlds.oracle.model import Points

PATHS = {"o5": "generator", "o5-latent": "start"}
"""Which of the two networks learns."""


class Affine(nn.Module):
    """y = A z + b."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[1.0, 0.3], [-0.2, 0.8]]))
        self.shift = nn.Parameter(torch.tensor([0.5, -0.5]))

    def forward(self, z: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 2"]:
        """Return y."""
        return z @ self.matrix.T + self.shift


class Start(nn.Module):
    """Mean and log std of z, for each prompt the same; N(0, I) at first."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_std = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(()))

    def forward(self, prompt: Float[Tensor, " batch"]) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, " batch"]]:
        """Return mean and std for each prompt."""
        return self.mean.expand(len(prompt), -1), self.log_std.exp().expand(len(prompt))


@dataclass(frozen=True, eq=False)
class OneStepOracle:
    """An affine generator; `networks` holds the one that learns, and `others` the one that does not."""

    networks: Mapping[str, nn.Module]
    others: Mapping[str, nn.Module]

    lora_targets: ClassVar[Sequence[str]] = ()
    pipeline_name: ClassVar[str] = ""
    left_out: ClassVar[Sequence[str]] = ()

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> OneStepOracle:
        """Return the oracle that `path` names: o5, whose generator learns, or o5-latent, whose start does."""
        if str(path) not in PATHS:
            raise UserError(f"model.path {str(path)!r}: no such oracle{nearest(str(path), PATHS)}")
        both: dict[str, nn.Module] = {"generator": Affine().to(device), "start": Start().to(device)}
        trained = PATHS[str(path)]
        others = {name: network.requires_grad_(False) for name, network in both.items() if name != trained}
        return cls({trained: both[trained]}, others)

    @property
    def learns(self) -> Literal["output", "latent"]:
        """Which of the two networks learns."""
        return "output" if "generator" in self.networks else "latent"

    def with_networks(self, networks: Mapping[str, nn.Module]) -> OneStepOracle:
        """Return this oracle over another network of the one that learns."""
        return replace(self, networks=networks)

    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return nothing, for each prompt and the empty one."""
        return {"nothing": torch.zeros(len(prompts) + 1, device=self.latent().device)}

    def decode(self, sample: Float[Tensor, "batch 2"]) -> Points:
        """Return the samples as points."""
        return Points(sample.float())

    def encode_media(self, media: Media) -> Float[Tensor, "batch 2"]:
        """Return where the points are. Raises ValueError for media that are no points."""
        if not isinstance(media, Points):
            raise ValueError(f"an oracle draws Points, not {type(media).__name__}")
        return media.position.to(self.latent().device)

    def latent(self) -> LatentSpec:
        """Return the plane, where the networks are."""
        weight = next(next(iter(self.networks.values())).parameters())
        return LatentSpec((2,), weight.dtype, weight.device)

    def noise(self) -> LatentSpec:
        """Return that z is a point of a plane too."""
        return self.latent()

    def start(self, condition: Condition, prompt_index: Int[Tensor, " batch"]) -> Gaussian:
        """Return what z is drawn from."""
        return Gaussian(*self._network("start")(condition["nothing"][prompt_index]))

    def generate(
        self, z: Float[Tensor, "batch 2"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch 2"]:
        """Return A z + b."""
        return cast(Tensor, self._network("generator")(z))

    def _network(self, name: str) -> nn.Module:
        return self.networks[name] if name in self.networks else self.others[name]


@dataclass(frozen=True)
class OneStepOracleSettings:
    """Nothing can be chosen about an oracle."""

    serves: ClassVar[tuple[str, ...]] = ()

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> OneStepOracle:
        """Return the oracle of that name, in float32 whatever `dtype` is."""
        return OneStepOracle.load(str(source), device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return nothing more than the sampler asks: no library draws an oracle."""
        return sampler
