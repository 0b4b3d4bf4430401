"""Consistency and path of what stands out from a clip's ground."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import declare
from limner.rewards.video.clips import AXES, Frames, centroids, clips, judgeable, judged, standing_out

BINS = 5
"""Bins of a colour channel."""


@declare(
    RewardSpec(
        "video_consistency",
        "how alike the colours of what stands out are in all frames, by the frame before and by the first",
        low=0.0,
        high=1.0,
        axes=AXES,
        source="VBench's subject consistency (arXiv:2311.17982) on a colour histogram in place of DINO's features",
    )
)
def video_consistency(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return the mean over frames t > 0 of (cos(f_(t-1), f_t) + cos(f_0, f_t)) / 2, f a histogram's square root."""
    frames = clips(media, "video_consistency")
    features = _histograms(frames.detach().nan_to_num()).sqrt()
    before = (features[:, :-1] * features[:, 1:]).sum(-1)
    first = (features[:, :1] * features[:, 1:]).sum(-1)
    return judged(((before + first) / 2).mean(1).clamp(0, 1), judgeable(frames))


def _histograms(frames: Frames) -> Float[Tensor, "batch frames bins"]:
    """Return the colours of what stands out, shares of all of it; zeros where nothing does."""
    bins = (frames.clamp(0, 1) * (BINS - 1)).round().long()
    index = (bins[:, :, 0] * BINS + bins[:, :, 1]) * BINS + bins[:, :, 2]
    weight = standing_out(frames)
    counts = (one_hot(index, BINS**3) * weight[..., None]).sum((2, 3))
    return counts / counts.sum(-1, keepdim=True).clamp(min=1e-6)


@declare(
    RewardSpec(
        "video_track",
        "how well one steady motion explains the path of what stands out, and whether it is there throughout",
        low=0.0,
        high=1.0,
        axes=AXES,
        components={
            "path": "0 to 1: exp(-rms distance in per cent of the side from the nearest constant acceleration)",
            "mass": "0 to 1: exp(-4 x standard deviation over mean of the area that stands out)",
            "survival": "0 to 1: the share of frames in which at least half of the usual area stands out",
        },
        source="path and mass after NewtonRewards (2025), of the centroid of what stands out",
    )
)
def video_track(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return path x mass x survival, of the centroid of what stands out from a plain ground.

    A clip in which nothing ever stands out is invalid. A frozen one is perfect: gate it by `video_dynamics`.
    """
    frames = clips(media, "video_track", 4)
    out = standing_out(frames.detach().nan_to_num()).double()
    centres, areas = centroids(out)
    usual = areas.median(1, keepdim=True).values
    valid = judgeable(frames) & (areas.amax(1) >= 1)
    height, width = out.shape[-2:]
    times = torch.linspace(-1, 1, out.shape[1], dtype=out.dtype, device=out.device)
    basis = torch.stack([torch.ones_like(times), times, times**2], 1)
    left = centres - basis @ (torch.linalg.pinv(basis) @ centres)
    path = torch.exp(-100 * left.square().sum(-1).mean(1).sqrt() / min(height, width))
    mass = torch.exp(-4 * areas.std(1, correction=0) / areas.mean(1).clamp(min=1e-6))
    survival = ((areas >= 0.5 * usual) & (areas >= 1)).double().mean(1)
    parts = {"path": path, "mass": mass, "survival": survival}
    return judged(path * mass * survival, valid, parts)
