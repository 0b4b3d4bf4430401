"""Surprise: how wrong a network is about what comes next, which rises where the world's laws are broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import layer_norm

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.video.clips import AXES, Frames, clips, judgeable, judged
from limner.rewards.vision.preprocess import IMAGENET, Preprocess
from limner.rewards.vision.weights import pretrained


@dataclass(frozen=True)
class VideoSurprise:
    """Score minus the surprise, mean |predicted - seen| over the tokens after the first `context` of a clip.

    `seen` are V-JEPA 2's features of the whole clip, each normalised to mean 0 and variance 1 as in its training,
    `predicted` what its predictor makes of the features of the first frames alone: the encoder does not see the rest.
    (transformers' forward encodes the whole clip for both, and so leaks what is to be predicted.) `model` is a folder
    or hub id. A frozen clip surprises nobody: gate it by `video_dynamics`.

    Source: V-JEPA 2, arXiv:2506.09985, eq. 1; surprise as a measure of physics, arXiv:2502.11831. Deviation: one cut
    where that has many windows.
    Raises UserError for a `context` outside (0, 1), and for clips too short to have tokens on both sides of the cut.
    """

    model: str = "facebook/vjepa2-vitl-fpc64-256"
    context: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.context < 1:
            raise UserError(f"video_surprise: context must be above 0 and below 1, got {self.context}")

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "video_surprise",
            "minus how wrong V-JEPA 2 is about what comes next; a frozen clip is perfect",
            high=0.0,
            axes=AXES,
            source="arXiv:2506.09985, eq. 1; arXiv:2502.11831",
            weights_licence="MIT",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        frames = clips(media, "video_surprise")
        model = pretrained("video_surprise", "VJEPA2Model", self.model).to(frames.device)
        length = model.config.tubelet_size
        times = frames.shape[1] // length
        cut = round(self.context * times)
        if not 0 < cut < times:
            raise UserError(
                f"video_surprise reads {length} frames at a time, has {frames.shape[1]} to cut at {self.context:g}: "
                f"give clips of {2 * length} frames at least"
            )
        with torch.no_grad():
            found = [surprise(model, clip[None], cut * length) for clip in frames.detach().nan_to_num()]
        return judged(-torch.cat(found), judgeable(frames))


def surprise(model: Any, frames: Frames, first: int) -> Float[Tensor, " batch"]:
    """Return the mean |predicted - seen| after the `first` frames."""
    size = model.config.crop_size
    pixels = Preprocess(size, IMAGENET)(frames.flatten(0, 1).float()).unflatten(0, frames.shape[:2])
    known, everything = (
        model.encoder(pixel_values_videos=part).last_hidden_state for part in (pixels[:, :first], pixels)
    )
    tokens, given = everything.shape[1], known.shape[1]
    places: Int[Tensor, "batch tokens"] = torch.arange(tokens, device=frames.device).expand(len(frames), -1)
    predicted = model.predictor(
        encoder_hidden_states=known, context_mask=[places[:, :given]], target_mask=[places[:, given:]]
    ).last_hidden_state
    seen = layer_norm(everything[:, given:], everything.shape[-1:])
    return (predicted - seen).abs().mean((1, 2))
