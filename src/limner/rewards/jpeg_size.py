"""JPEG size: the simplest reward there is, exact and non-differentiable, for learning to learn."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from limner.core.media import Media
from limner.core.types import Prompt, RewardSpec
from limner.judging.spec import declare

QUALITY = 95
SOURCE = "DDPO (arXiv 2305.13301), section 5"


@declare(
    RewardSpec(
        "jpeg_size",
        "the size of the picture's JPEG file at quality 95: rewards detail and noise",
        low=0.0,
        unit="kB",
        source=SOURCE,
    )
)
def jpeg_size(media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return the JPEG size of each sample: kilobytes (1000 bytes) at quality 95, the mean over its frames.

    Source: DDPO (arXiv 2305.13301) section 5, "incompressibility": PIL's encoder with its default subsampling.
    Deviation: several frames are averaged. Bigger is better; prompts are not read.
    """
    return _sizes(media)


@declare(
    RewardSpec(
        "jpeg_compressibility",
        "minus the size of the picture's JPEG file at quality 95: rewards plainness",
        high=0.0,
        unit="kB",
        source=SOURCE,
    )
)
def jpeg_compressibility(media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return minus `jpeg_size`: kilobytes (1000 bytes) at quality 95, negated, so that smaller is better."""
    return -_sizes(media)


def _sizes(media: Media) -> Float[Tensor, " batch"]:
    frames = (media.frames().detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    sizes = [[_kilobytes(frame) for frame in sample] for sample in frames]
    return torch.tensor(sizes, dtype=torch.float32).reshape(frames.shape[:2]).mean(1)


def _kilobytes(frame: UInt8[Tensor, "3 height width"]) -> float:
    buffer = io.BytesIO()
    Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).save(buffer, "JPEG", quality=QUALITY)
    return buffer.tell() / 1000
