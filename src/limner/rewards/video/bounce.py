"""Physics of one thing that falls, flies or bounces: restitution, and the momentum that nothing takes from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import declare
from limner.rewards.video.clips import AXES, centroids, clips, judgeable, judged, standing_out

MOST = 1.02
"""Speed after over speed before an impact that is still no gain: 1, and what the tracking is wrong by."""
PER_FRAME = 4
"""Moments of impact that are tried in each frame."""


@declare(
    RewardSpec(
        "video_bounce",
        "how well one body that falls and may bounce once, without gaining speed, explains what stands out",
        low=0.0,
        high=1.0,
        axes=AXES,
        components={
            "fall": "0 to 1: exp(-rms distance in per cent of the side from two parabolas of one acceleration)",
            "momentum": "0 to 1: exp(-rms distance in per cent of the side from a steady motion to the side)",
            "restitution": "-1 to 1.02: speed after over speed before the impact; -1 without one",
        },
        source="residual of Newton's equations (PhysRVG, NewtonRewards, 2025), with restitution at most 1",
    )
)
def video_bounce(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return fall x momentum, of the centroid of what stands out from a plain ground.

    Upright it follows y0 + v t + a t^2 / 2, before and after an impact that turns v into -e v, 0 <= e <= 1.02, or
    without one; to the side nothing pushes it, so its momentum stays: x0 + u t. A thing that rises faster than it fell,
    or turns in the air, does neither. A clip in which nothing ever stands out is invalid. A frozen one is perfect: gate
    it by `video_dynamics`.
    """
    frames = clips(media, "video_bounce", 6)
    centres, areas = centroids(standing_out(frames.detach().nan_to_num()).double())
    side, times = min(frames.shape[-2:]), torch.arange(frames.shape[1], dtype=torch.float64, device=frames.device)
    apart, restitution = bounced(centres[..., 1], times)
    steady = torch.stack([torch.ones_like(times), times], 1)
    pushed = _rms(centres[..., 0], steady)[1]
    fall, momentum = torch.exp(-100 * apart / side), torch.exp(-100 * pushed / side)
    valid = judgeable(frames) & (areas.amax(1) >= 1)
    return judged(fall * momentum, valid, {"fall": fall, "momentum": momentum, "restitution": restitution})


def bounced(
    heights: Float[Tensor, "batch frames"], times: Float[Tensor, " frames"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return the rms distance of heights from the nearest fall, and the restitution of its impact, -1 without one.

    For each moment c of an impact, least squares for floor, both speeds and the acceleration; those that gain speed, or
    go on through the floor, do not count.
    """
    ones = torch.ones_like(times)
    best = _rms(heights, torch.stack([ones, times, times**2 / 2], 1))[1]
    found = torch.full_like(best, -1)
    count = len(times)
    for c in torch.linspace(1.5, count - 2.5, PER_FRAME * (count - 4) + 1).tolist():
        before, after = (times - c).clamp(max=0), (times - c).clamp(min=0)
        fit, apart = _rms(heights, torch.stack([ones, before, after, (times - c) ** 2 / 2], 1))
        ratio = -fit[:, 2] / torch.where(fit[:, 1] == 0, 1, fit[:, 1])
        counts = (fit[:, 1].abs() > 1e-3) & (ratio > 0) & (ratio <= MOST) & (apart < 0.9 * best)
        best, found = torch.where(counts, apart, best), torch.where(counts, ratio, found)
    return best, found


def _rms(
    values: Float[Tensor, "batch frames"], basis: Float[Tensor, "frames numbers"]
) -> tuple[Float[Tensor, "batch numbers"], Float[Tensor, " batch"]]:
    """Return the least-squares fit of each row, and how far it lies from it."""
    fit = values @ torch.linalg.pinv(basis).T
    return fit, (values - fit @ basis.T).square().mean(1).sqrt()
