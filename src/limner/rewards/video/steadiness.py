"""Flicker and smoothness: how little a clip changes, and how evenly. A frozen clip is perfect by both."""

from __future__ import annotations

from collections.abc import Sequence

from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import declare
from limner.rewards.video.clips import AXES, clips, judgeable, judged


@declare(
    RewardSpec(
        "video_flicker",
        "how little neighbouring frames differ; a frozen clip is perfect: combine it with video_dynamics",
        low=0.0,
        high=1.0,
        axes=AXES,
        differentiable=True,
        source="VBench's temporal flickering, arXiv:2311.17982",
    )
)
def video_flicker(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return 1 - mean |x_(t+1) - x_t| over pixels, channels and pairs of frames."""
    frames = clips(media, "video_flicker")
    return judged(1 - frames.diff(dim=1).abs().flatten(1).mean(1), judgeable(frames))


@declare(
    RewardSpec(
        "video_smoothness",
        "how near each frame is to the mean of its neighbours; a frozen clip is perfect: combine it",
        low=0.0,
        high=1.0,
        axes=AXES,
        differentiable=True,
        source="VBench's motion smoothness (arXiv:2311.17982), by the mean of neighbours, not a learned one",
    )
)
def video_smoothness(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return 1 - mean |x_t - (x_(t-1) + x_(t+1)) / 2| over pixels, channels and inner frames."""
    frames = clips(media, "video_smoothness", 3)
    between = (frames[:, :-2] + frames[:, 2:]) / 2
    return judged(1 - (frames[:, 1:-1] - between).abs().flatten(1).mean(1), judgeable(frames))
