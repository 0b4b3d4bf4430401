"""Reducers: a judge of pictures asked about each frame, or view, of a sample, and its answers brought to one number.

    frames_min(sharpness)           frames_quantile(sharpness, q=0.1)           frames_random(pickscore, count=2)

A judge that looks at the first frame alone teaches the others nothing. A sample counts if all that were asked about do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Images, Media, levels
from limner.core.protocols import Judge
from limner.core.types import Prompt, RewardOutput, RewardSpec

Scores = Float[Tensor, "batch frames"]
Reduced = Float[Tensor, " batch"]


@dataclass(frozen=True)
class Reducer:
    """A way to bring scores of frames to one; `setting` may be given by that name."""

    name: str
    setting: str = ""
    value: float = 0.0

    def __post_init__(self) -> None:
        low, high = {"q": (0.0, 1.0), "temperature": (1e-6, math.inf), "count": (1, math.inf)}.get(
            self.setting, (-math.inf, math.inf)
        )
        if not low <= self.value <= high:
            raise UserError(f"reward {self.name}: {self.setting} is from {low:g} to {high:g}, got {self.value:g}")

    def written(self, inner: str) -> str:
        """Return it as text around what it is of."""
        given = f", {self.setting}={self.value:g}" if self != REDUCERS[self.name] else ""
        return f"{self.name}({inner}{given})"

    def reduce(self, scores: Scores) -> Reduced:
        """Return one number a sample."""
        return _REDUCE[self.name](scores, self.value)


REDUCERS: Mapping[str, Reducer] = {
    "frames_mean": Reducer("frames_mean"),
    "frames_min": Reducer("frames_min"),
    "frames_softmin": Reducer("frames_softmin", "temperature", 0.1),
    "frames_quantile": Reducer("frames_quantile", "q", 0.1),
    "frames_random": Reducer("frames_random", "count", 2.0),
}

_REDUCE: Mapping[str, Callable[[Scores, float], Reduced]] = {
    "frames_mean": lambda scores, _: scores.mean(1),
    "frames_min": lambda scores, _: scores.amin(1),
    # -tau log mean exp(-x / tau): the least as tau falls to 0, the mean as it grows
    "frames_softmin": lambda scores, tau: -tau * (torch.logsumexp(-scores / tau, 1) - math.log(scores.shape[1])),
    "frames_quantile": lambda scores, q: scores.quantile(q, dim=1),
    "frames_random": lambda scores, _: scores.mean(1),
}


@dataclass(frozen=True)
class Framewise:
    """A judge of pictures that judges samples of many frames by a reducer; `name` is the column."""

    name: str
    judge: Judge
    reducer: Reducer

    @property
    def spec(self) -> RewardSpec:
        """The judge's, over time; its components are reduced alike."""
        return replace(self.judge.spec, name=self.name, axes=("T", "C", "H", "W"), maps={})

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Judge what a file would hold."""
        return self._reduced(self.judge, media.rounded().frames(), prompts)

    def differentiable(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Judge what is given, with gradients through the reducer."""
        return self._reduced(self.judge.differentiable, media.frames(), prompts)

    def _reduced(
        self,
        ask: Callable[[Media, Sequence[Prompt]], RewardOutput],
        frames: Float[Tensor, "batch frames 3 height width"],
        prompts: Sequence[Prompt],
    ) -> RewardOutput:
        if self.reducer.name == "frames_random":
            rows = torch.arange(len(frames), device=frames.device)[:, None]
            frames = frames[rows, _drawn(frames, int(self.reducer.value)).to(frames.device)]
        shape, output = frames.shape[:2], of_frames(ask, frames, prompts)
        parts = {name: self.reducer.reduce(part.unflatten(0, shape)) for name, part in output.components.items()}
        valid = output.valid.unflatten(0, shape).all(1)
        score = self.reducer.reduce(output.score.unflatten(0, shape))
        return RewardOutput(score.masked_fill(~valid, torch.nan), valid, parts)


def of_frames(
    ask: Callable[[Media, Sequence[Prompt]], RewardOutput],
    frames: Float[Tensor, "batch frames 3 height width"],
    prompts: Sequence[Prompt],
) -> RewardOutput:
    """Return what a judge of pictures says of each frame, all frames of the first sample first."""
    asked = [prompt for prompt in prompts for _ in range(frames.shape[1])]
    return ask(Images(frames.flatten(0, 1)), asked)


def _drawn(frames: Float[Tensor, "batch frames 3 height width"], count: int) -> Int[Tensor, "batch count"]:
    """Return which frames of each sample are judged: equal samples get equal ones, and none can be prepared for.

    They are drawn by a hash of the sample's own levels.
    """
    drawn = []
    for clip in levels(frames).cpu():
        digest = hashlib.blake2b(clip.contiguous().numpy().tobytes(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        drawn.append(torch.randperm(len(clip), generator=generator)[: min(count, len(clip))])
    return torch.stack(drawn)
