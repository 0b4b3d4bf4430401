"""Warp error and dynamic degree: whether a clip's change is movement, and how much of it there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.video.clips import AXES, clips, judgeable, judged
from limner.rewards.video.flow import Flow, agreeing, back, confirmed, forth, of_camera, sampled

TOP = 0.05
"""Share of a frame's pixels, those that move most, whose mean is its motion."""


@dataclass(frozen=True)
class VideoWarp:
    """Score 1 - mean |x_t(p) - x_(t+1)(p + f(p))| over pixels p that are seen in both frames.

    f is found by OpenCV's search, or by RAFT where `flow` is the file of its weights, as torchvision publishes them. A
    clip none of whose pixels are seen twice is worth 0. A frozen clip is perfect: combine it with `video_dynamics`.
    """

    flow: str = ""

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "video_warp",
            "how well each frame, moved along its optical flow, is the next; hidden pixels do not count",
            low=0.0,
            high=1.0,
            axes=AXES,
            components={"seen": "0 to 1: the share of pixels whose flow leads there and back"},
            source="warping error, Lai et al., arXiv:1808.00449, masked by a forward-backward check",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        frames = clips(media, "video_warp")
        valid = judgeable(frames)
        scores, shares = torch.zeros(2, len(frames)).unbind()
        for i in valid.nonzero()[:, 0].tolist():
            clip = frames[i].detach()
            scores[i], shares[i] = _warped(clip, forth(clip, self.flow), back(clip, self.flow))
        return judged(scores, valid.cpu(), {"seen": shares})


def _warped(clip: Float[Tensor, "frames 3 height width"], there: Flow, returned: Flow) -> tuple[float, float]:
    """Return 1 - the warp error of a clip, and the share of pixels that are seen twice; 0 and 0 where none are."""
    pixels = clip.float().cpu().permute(0, 2, 3, 1).contiguous().numpy()
    seen = [agreeing(f, b) for f, b in zip(there, returned, strict=True)]
    wrong = [np.abs(a - sampled(b, f)).mean(-1) for a, b, f in zip(pixels, pixels[1:], there, strict=False)]
    count = sum(float(mask.sum()) for mask in seen)
    error = sum(float(each[mask].sum()) for each, mask in zip(wrong, seen, strict=True))
    return (1 - error / count if count else 0.0), (float(np.mean(seen)) if seen else 0.0)


@dataclass(frozen=True)
class VideoDynamics:
    """Score how much moves: with m the mean over pairs of frames of the flow of the 5 % that move most.

    m is in shares of the shorter side a frame, the camera's motion taken away (a fitted homography). Flow counts as far
    as it explains a change that is seen (`confirmed`): an empty, a still and a noisy clip have none. Without a `base`
    the score is m / (m + 0.02): it always grows. With the `base` model's own m it is min(m / base, base / m): 1 at the
    base's own motion, less for a clip that freezes and for one that overdoes it. `flow` is as
    `video_warp` has it. Raises UserError for a negative base.
    """

    base: float = 0.0
    flow: str = ""

    def __post_init__(self) -> None:
        if not self.base >= 0:
            raise UserError(f"video_dynamics: base, the base model's own motion, must not be negative, got {self.base}")

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "video_dynamics",
            "how much moves beside the camera, or, with base=, how near that is to a base model's own motion",
            low=0.0,
            high=1.0,
            axes=AXES,
            components={"motion": "0 to 1: flow of the 5 % that move most, in shares of the shorter side a frame"},
            source="VBench's dynamic degree (arXiv:2311.17982), continuous, with a homography taken away",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        frames = clips(media, "video_dynamics")
        valid = judgeable(frames).cpu()
        found = torch.zeros(len(frames))
        for i in valid.nonzero()[:, 0].tolist():
            lengths = np.sort(_moved(frames[i].detach(), self.flow).reshape(frames.shape[1] - 1, -1), axis=1)
            most = lengths[:, -max(1, round(TOP * lengths.shape[1])) :]
            found[i] = min(float(most.mean()) / min(frames.shape[-2:]), 1.0)
        if self.base:
            score = torch.minimum(found / self.base, self.base / found.clamp(min=1e-6))
        else:
            score = found / (found + 0.02)
        return judged(score, valid, {"motion": found})


def _moved(clip: Float[Tensor, "frames 3 height width"], network: str) -> Flow:
    """Return by how many pixels what each pixel shows moves by itself, `[frames - 1, height, width]`."""
    pixels = clip.float().cpu().permute(0, 2, 3, 1).contiguous().numpy()
    found = []
    for now, then, flow in zip(pixels, pixels[1:], forth(clip, network), strict=False):
        seen = confirmed(now, then, flow)[..., None]
        found.append(np.linalg.norm(seen * (flow - of_camera(seen * flow)), axis=-1))
    return np.stack(found)
