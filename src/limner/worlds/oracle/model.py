"""A trainable denoiser that begins as the perfect one of its world, and what it draws: points of the plane."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from limner.core.errors import UserError, nearest
from limner.core.media import Media, levels
from limner.core.types import Condition, LatentSpec, Prompt, Source
from limner.diffusion.prediction import PredictionKind, from_estimate
from limner.diffusion.schedule import RectifiedFlow, Schedule, VariancePreserving
from limner.diffusion.timesteps import Grid, linear_grid
from limner.worlds.oracle.world import WORLDS, World

WAVES = 6
"""Functions of time: cos(k pi t), k < WAVES."""
LEVELS = 1000


@dataclass(frozen=True)
class Points:
    """Samples as numbers; as frames, a dark dot on a square of the plane, [-4, 4] wide."""

    position: Float[Tensor, "batch 2"]

    suffixes: ClassVar[Sequence[str]] = (".json",)

    def frames(self) -> Float[Tensor, "batch 1 3 32 32"]:
        axis = torch.linspace(-4, 4, 32, device=self.position.device)
        x, y = (torch.exp(-((axis - self.position[:, i, None]) ** 2) / 0.1) for i in (0, 1))
        return (1 - y.flip(1)[:, :, None] * x[:, None, :])[:, None, None].expand(-1, 1, 3, -1, -1)

    def rounded(self) -> Points:
        """Return the same points: they are saved as numbers."""
        return Points(self.position.detach())

    def stills(self) -> UInt8[Tensor, "batch 3 32 32"]:
        """Return their frames."""
        return levels(self.frames()[:, 0])

    def save(self, paths: Sequence[Path]) -> None:
        """Write the coordinates as JSON."""
        for position, path in zip(self.position.tolist(), paths, strict=True):
            path.write_text(f"{json.dumps(position)}\n", encoding="utf-8")

    def __len__(self) -> int:
        return self.position.shape[0]


class AffineResidual(nn.Module):
    """sum_k cos(k pi t) (A_k x + b_k), zero at first: a denoiser that was affine stays so."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(WAVES, dim, dim))
        self.shift = nn.Parameter(torch.zeros(WAVES, dim))

    def forward(self, x: Float[Tensor, "batch dim"], t: Float[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        """Return the correction at (x, t)."""
        waves = _waves(t)
        return torch.einsum("bk,kij,bj->bi", waves, self.matrix, x) + waves @ self.shift


class DeepResidual(nn.Module):
    """A small perceptron of (x, cos(k pi t)), zero at first."""

    def __init__(self, dim: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim + WAVES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dim)
        )
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "batch dim"], t: Float[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        """Return the correction at (x, t)."""
        return self.layers(torch.cat([x, _waves(t)], 1))


@dataclass(frozen=True, eq=False)
class Oracle:
    """The perfect denoiser of a world's base density plus a trainable residual, as a `Denoiser`.

    `prediction` "velocity" stands on rectified flow, "noise" on a variance-preserving chain whose last alpha is .08.
    """

    world: World
    networks: Mapping[str, nn.Module]
    schedule: Schedule
    prediction: PredictionKind

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> Oracle:
        """Return the oracle that `path` names: a world, o1 to o3, and `-noise` after it for a noise prediction."""
        name, _, kind = str(path).partition("-")
        if name not in WORLDS or kind not in ("", "noise"):
            known = [f"{world}{suffix}" for world in WORLDS for suffix in ("", "-noise")]
            raise UserError(f"model.path {str(path)!r}: no such oracle{nearest(str(path), known)}")
        t = torch.arange(1, LEVELS + 1) / LEVELS
        schedule: Schedule = VariancePreserving(torch.exp(-5 * t**2)) if kind else RectifiedFlow()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            residual = DeepResidual(2) if name == "o3" else AffineResidual(2)
        return cls(WORLDS[name], {"residual": residual.to(device)}, schedule, "noise" if kind else "velocity")

    @property
    def lora_targets(self) -> Sequence[str]:
        """There is nothing to adapt: train all weights (`--model.train Full`)."""
        return ()

    def with_networks(self, networks: Mapping[str, nn.Module]) -> Oracle:
        """Return this oracle over another residual."""
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
        """Return the plane (or as many numbers as the base has), where the residual is."""
        weight = next(self.networks["residual"].parameters())
        return LatentSpec(tuple(self.world.base.means.shape[1:]), weight.dtype, weight.device)

    def times(self, steps: int, grid: Grid = "own") -> Float[Tensor, " points"]:
        """Return the times of equal steps from 1 to 0."""
        return linear_grid(steps, 1.0)

    def predict(
        self,
        x: Float[Tensor, "batch 2"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch 2"]:
        """Return what a perfect network would predict, plus the residual."""
        perfect = self.world.base.estimate(x, self.schedule.alpha(t), self.schedule.sigma(t))
        return from_estimate(self.prediction, perfect, t, self.schedule) + self.networks["residual"](x, t)


@dataclass(frozen=True)
class OracleSettings:
    """Nothing can be chosen about an oracle."""

    serves: ClassVar[tuple[str, ...]] = ()

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Oracle:
        """Return the oracle of that name, in float32 whatever `dtype` is."""
        return Oracle.load(str(source), device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return nothing more than the sampler asks: no library draws an oracle."""
        return sampler


def _waves(t: Float[Tensor, " batch"]) -> Float[Tensor, "batch waves"]:
    return torch.cos(math.pi * t[:, None] * torch.arange(WAVES, device=t.device))
