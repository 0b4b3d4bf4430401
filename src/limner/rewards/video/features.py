"""Subject consistency by a network's features: whether it looks like the same thing to one that knows things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.efficientnet import picture_features
from limner.rewards.video.clips import AXES, Frames, clips, judgeable, judged
from limner.rewards.vision.patches import EFFICIENTNET
from limner.rewards.vision.preprocess import IMAGENET, Preprocess
from limner.rewards.vision.weights import pretrained


@dataclass(frozen=True)
class VideoSubject:
    """Score the mean over frames t > 0 of (max(0, cos(f_(t-1), f_t)) + max(0, cos(f_0, f_t))) / 2, in [0, 1].

    f are the features of whole frames: EfficientNet-Lite0's, whose weights are in a package (`limner[emoji]`), or the
    class token of DINOv2 in the folder or hub id `network`. A frozen clip is perfect: gate it by `video_dynamics`.
    Source: VBench's subject consistency (arXiv:2311.17982), which has DINO.
    """

    network: str = EFFICIENTNET

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "video_subject",
            "how alike all frames look to a network, by the frame before and by the first; a frozen clip is perfect",
            low=0.0,
            high=1.0,
            axes=AXES,
            source="VBench's subject consistency, arXiv:2311.17982",
            weights_licence="Apache-2.0",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        frames = clips(media, "video_subject")
        seen = self.embed(frames.detach().nan_to_num())
        before, first = (seen[:, :-1] * seen[:, 1:]).sum(-1), (seen[:, :1] * seen[:, 1:]).sum(-1)
        score = ((before.clamp(min=0) + first.clamp(min=0)) / 2).mean(1).clamp(max=1)
        return judged(score, judgeable(frames))

    def embed(self, frames: Frames) -> Float[Tensor, "batch frames dim"]:
        """Return the features of each frame, of length 1."""
        pictures = frames.flatten(0, 1).float()
        with torch.no_grad():
            if self.network == EFFICIENTNET:
                found = picture_features(pictures)
            else:
                model = pretrained("video_subject", "AutoModel", self.network).to(frames.device)
                found = model(pixel_values=Preprocess(224, IMAGENET, resize=256)(pictures)).last_hidden_state[:, 0]
        return normalize(found, dim=-1).unflatten(0, frames.shape[:2])
