"""Flicker and smoothness: how little a clip changes, and how evenly. A frozen clip is perfect by both."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import declare
from limner.rewards.video.clips import AXES, clips, judgeable, judged

STILL = 1e-4
"""A mean change of a pair of frames that is none: one level of 255 in one of forty pixels."""


@declare(
    RewardSpec(
        "video_flicker",
        "how little neighbouring frames differ; a frozen clip is perfect: combine it with video_dynamics",
        low=0.0,
        high=1.0,
        axes=AXES,
        differentiable=True,
        components={
            "even": "0 to 1: the median change of a pair of frames over the largest; one cut is enough to lower it"
        },
        source="VBench's temporal flickering, arXiv:2311.17982",
    )
)
def video_flicker(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return 1 - mean |x_(t+1) - x_t| over pixels, channels and pairs of frames.

    `.even` is median d_t / max d_t, where d_t is the mean of pair t: a cut, a jump or a bad frame stands out from the
    other pairs, which a mean over them hides. It is 1 where hardly anything changes.
    """
    frames = clips(media, "video_flicker")
    changes = frames.diff(dim=1).abs().flatten(2).mean(2)
    largest = changes.amax(1)
    even = torch.where(largest > STILL, changes.median(1).values / largest.clamp(min=STILL), 1.0)
    return judged(1 - changes.mean(1), judgeable(frames), {"even": even})


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
