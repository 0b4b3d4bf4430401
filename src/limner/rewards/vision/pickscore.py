"""PickScore: a CLIP model trained on the choices of people who generate pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limner.core.media import Media
from limner.core.types import Prompt, RewardSpec
from limner.rewards.vision.clip import clip

DIVISOR = 26.0
"""What Flow-GRPO and its followers divide by, so that good pictures score about 0.8 to 0.9."""


@dataclass(frozen=True)
class PickScore:
    """Score exp(s) cos(picture, prompt) / 26, the mean over frames, s the model's own logit scale (at most ln 100).

    A difference d of two scores means that people prefer the higher one with probability 1 / (1 + exp(-26 d)).
    `model` and `tokenizer` are folders or hub ids. Source: Pick-a-Pic (arXiv 2305.01569), eq. 1; 26 as in Flow-GRPO
    (arXiv 2505.05470).
    """

    model: str = "yuvalkirstain/PickScore_v1"
    tokenizer: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "pickscore",
            "how likely people are to pick the picture for its prompt; about 0.7 to 0.9",
            low=-100 / DIVISOR,
            high=100 / DIVISOR,
            unit="log-odds / 26",
            needs=("prompt",),
            differentiable=True,
            source="arXiv 2305.01569, eq. 1",
            weights_licence="MIT",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
        frames, loaded = media.frames(), clip("pickscore", self.model, self.tokenizer)
        cosine = loaded.cosine(frames, [prompt.text for prompt in prompts])
        return loaded.model.logit_scale.exp() * cosine / DIVISOR
