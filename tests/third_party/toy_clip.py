"""A medium and a generator of it as another package would bring them: short clips, from a small flow model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.media import Media, levels, to_image, unit
from limner.core.tree import select
from limner.core.types import LatentSpec, Pipeline, Prompt
from limner.diffusion.schedule import RectifiedFlow, Schedule
from limner.diffusion.timesteps import linear_grid
from toys import Affine

SHAPE = (3, 3, 4, 4)
"""Frames, colours, rows, columns of a latent; a cell of it is two pixels high and wide."""


@dataclass(frozen=True)
class Clips:
    """Clips: sRGB values in [0, 1] or levels, [batch, frames, 3, height, width], `fps` frames a second."""

    pixels: Tensor
    fps: float

    suffixes: ClassVar[Sequence[str]] = (".webp",)

    def frames(self) -> Tensor:
        return unit(self.pixels)

    def rounded(self) -> Clips:
        return replace(self, pixels=levels(self.pixels))

    def stills(self) -> Tensor:
        """The middle frames."""
        return levels(self.pixels[:, self.pixels.shape[1] // 2])

    def save(self, paths: Sequence[Path]) -> None:
        for clip, path in zip(levels(self.pixels), paths, strict=True):
            first, *rest = map(to_image, clip)
            first.save(path, save_all=True, append_images=rest, duration=round(1000 / self.fps), loop=0, lossless=True)

    def __len__(self) -> int:
        return len(self.pixels)


def clips(frames: Tensor, facts: Mapping[str, Any]) -> Clips:
    """Return what a host makes of a request's frames."""
    if facts.keys() != {"fps"} or not isinstance(facts["fps"], int | float) or not facts["fps"] > 0:
        raise UserError(f"clips have one fact, fps, a positive number, got {dict(facts)}")
    return Clips(frames, facts["fps"])


def motion(media: Media, prompts: Sequence[Prompt]) -> Tensor:
    """Score by the mean absolute change a second: a reward that knows what clips are."""
    if not isinstance(media, Clips):
        raise UserError(f"motion judges clips, not {type(media).__name__}")
    return media.frames().diff(dim=1).abs().mean((1, 2, 3, 4)) * media.fps


@dataclass(frozen=True, eq=False)
class ToyClips:
    """A flow model that draws clips; prompts are told apart by the length of their text."""

    network: Affine
    schedule: Schedule = field(default_factory=RectifiedFlow)
    prediction: ClassVar[str] = "velocity"
    lora_targets: ClassVar[Sequence[str]] = ()
    pipeline_name: ClassVar[str] = "ToyClips"
    left_out: ClassVar[Sequence[str]] = ()

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}

    def with_networks(self, networks: Mapping[str, nn.Module]) -> ToyClips:
        return replace(self, network=networks["network"])

    def encode(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        return {"word": torch.tensor([*(1 + len(prompt.text) % 7 for prompt in prompts), 0])}

    def decode(self, sample: Tensor) -> Clips:
        return Clips(sample.sigmoid().repeat_interleave(2, -1).repeat_interleave(2, -2), fps=8.0)

    def encode_media(self, media: Media) -> Tensor:
        return media.frames()[..., ::2, ::2].clamp(0.01, 0.99).logit()

    def latent(self) -> LatentSpec:
        return LatentSpec(SHAPE, torch.float32, self.network.scale.device)

    def times(self, steps: int, grid: str = "own") -> Tensor:
        return linear_grid(steps, 1.0)

    def predict(self, x: Tensor, t: Tensor, condition: dict[str, Tensor], prompt_index: Tensor) -> Tensor:
        return self.network(x, t, select(condition, prompt_index)["word"])

    def export_full(self, folder: Path) -> None:
        torch.save(self.network.state_dict(), folder / "network.pt")


@dataclass(frozen=True)
class ToyClipSettings:
    """What can be chosen: how much of a clip's noise its first weights keep."""

    scale: float = 1.0
    serves: ClassVar[Sequence[str]] = ()

    def load(self, source: str | Path | Pipeline, dtype: torch.dtype, device: torch.device) -> ToyClips:
        network = Affine(torch.Size(SHAPE).numel()).to(device)
        network.scale.data.mul_(self.scale)
        return ToyClips(network)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        return sampler
