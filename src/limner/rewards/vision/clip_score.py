"""CLIP score: how well picture and prompt agree, by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limner.core.media import Media
from limner.core.types import Prompt, RewardSpec
from limner.rewards.vision.clip import clip


@dataclass(frozen=True)
class ClipScore:
    """Score cos(picture, prompt) in CLIP's space, the mean over frames; 0.15 to 0.35 for natural pairs.

    `model` is a folder or hub id of a CLIPModel; the prompt is cut to 77 tokens. Source: Hessel et al., CLIPScore
    (arXiv 2104.08718), eq. 1. Deviation: neither scaled by 2.5 nor cut at 0.
    """

    model: str = "openai/clip-vit-large-patch14"

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "clip_score",
            "the cosine of picture and prompt in CLIP's space; 0.15 to 0.35 for natural pairs",
            low=-1.0,
            high=1.0,
            needs=("prompt",),
            differentiable=True,
            source="arXiv 2104.08718, eq. 1",
            weights_licence="MIT",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
        return clip("clip_score", self.model).cosine(media.frames(), [prompt.text for prompt in prompts])
