"""Distance to a reference clip, pixel by pixel: for tasks that have one right answer, as a simulator gives it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from limner.core.errors import UserError
from limner.core.media import Media, Videos
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import declare
from limner.rewards.video.answer import reference_clip
from limner.rewards.video.clips import AXES, Frames, clips, judgeable, judged, standing_out

WINDOW, SIGMA = 11, 1.5
"""Of SSIM: its Gaussian window."""


@declare(
    RewardSpec(
        "video_reference",
        "how near a clip is to the one in meta.reference: in pixels, in structure, and in where its things are",
        low=-1 / 3,
        high=1.0,
        needs=("meta.reference",),
        axes=AXES,
        components={
            "mae": "0 to 1: mean absolute difference of pixels; lower is better",
            "ssim": "-1 to 1: structural similarity of grey levels, mean over frames",
            "iou": "0 to 1: of what stands out, pixels and frames in both over those in either",
        },
        source="Physics-IQ (arXiv:2501.09038), its spatiotemporal IoU and error; SSIM, Wang et al. 2004",
    )
)
def video_reference(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return ((1 - mae) + ssim + iou) / 3 against `meta["reference"]`.

    That is the name of a file of the same form, in size, frames and frames a second (a file of prompts says it as
    "reference": "right.webp", seen from its own folder), or, in Python, a tensor [frames, 3, height, width] in [0, 1].
    A tensor of another size is brought to the clip's. Another number of frames is refused, for which frame then answers
    which is not known; so is a file of another form. A prompt without a reference cannot be judged.
    """
    frames = clips(media, "video_reference", 1).detach()
    known = torch.tensor(["reference" in prompt.meta for prompt in prompts], device=frames.device)
    fps = media.fps if isinstance(media, Videos) else None
    wanted = torch.stack([_reference(prompt, each, fps) for prompt, each in zip(prompts, frames, strict=True)])
    shown = frames.nan_to_num()
    mae = (shown - wanted).abs().flatten(1).mean(1)
    alike = similarity(_grey(shown), _grey(wanted)).mean(1)
    mine, theirs = standing_out(shown), standing_out(wanted)
    either = torch.maximum(mine, theirs).sum((1, 2, 3))
    iou = torch.where(either > 0, torch.minimum(mine, theirs).sum((1, 2, 3)) / either.clamp(min=1e-6), 1.0)
    score = ((1 - mae) + alike + iou) / 3
    return judged(score, judgeable(frames) & known, {"mae": mae, "ssim": alike, "iou": iou})


def similarity(
    a: Float[Tensor, "batch frames height width"], b: Float[Tensor, "batch frames height width"]
) -> Float[Tensor, "batch frames"]:
    """Return the mean SSIM of each frame of values in [0, 1], over windows that lie inside it.

        (2 ma mb + c1)(2 cov + c2) / ((ma^2 + mb^2 + c1)(va + vb + c2)),    c1 = .01^2, c2 = .03^2

    Source: Wang et al., IEEE TIP 13 (2004), eq. 13, with its 11 x 11 Gaussian window of sigma 1.5.
    """
    at = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    line = torch.exp(-(at**2) / (2 * SIGMA**2))
    window = (line[:, None] * line / line.sum() ** 2)[None, None]

    def mean(x: Tensor) -> Tensor:
        return conv2d(x.flatten(0, 1)[:, None], window)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    found = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return found.flatten(1).mean(1).view(a.shape[:2])


def _grey(frames: Frames) -> Float[Tensor, "batch frames height width"]:
    return (frames * frames.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(2)


def _reference(
    prompt: Prompt, clip: Float[Tensor, "frames 3 height width"], fps: float | None
) -> Float[Tensor, "frames 3 height width"]:
    if "reference" not in prompt.meta:
        return torch.zeros_like(clip)
    given = prompt.meta["reference"]
    if isinstance(given, str):
        return reference_clip(prompt, clip, fps)
    if not isinstance(given, Tensor) or given.ndim != 4 or given.shape[1] != 3 or not given.is_floating_point():
        kind = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise UserError(
            f"video_reference: prompt {prompt.text!r}: meta.reference must be the name of a file, or a tensor "
            f"[frames, 3, height, width] in [0, 1], got {kind}"
        )
    if len(given) != len(clip):
        raise UserError(
            f"video_reference: prompt {prompt.text!r}: its reference has {len(given)} frames, the clip {len(clip)}"
        )
    return interpolate(given.to(clip), clip.shape[-2:], mode="bilinear", antialias=True, align_corners=False)
