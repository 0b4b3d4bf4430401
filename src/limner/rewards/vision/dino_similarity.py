"""DINO similarity: how alike two pictures look to a network that never saw a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.vision.preprocess import IMAGENET, Preprocess
from limner.rewards.vision.weights import pretrained

AGAINST = ("reference", "frames")


@dataclass(frozen=True)
class DinoSimilarity:
    """Score the cosine of DINOv2's class tokens, in [-1, 1].

    `against="reference"`: each frame with the picture `meta["reference"]` (a tensor [3, height, width] in [0, 1]), the
    mean over frames; a prompt without one cannot be judged. `against="frames"`: the mean over all pairs of a sample's
    own frames (views, or moments); a single picture cannot be judged. `model` is a folder or hub id; a picture's
    shorter edge becomes `resize` pixels, of which the `crop` in the middle are seen.
    Source: DINOv2 (arXiv 2304.07193); the measure is DINO-I of DreamBooth (arXiv 2208.12242), section 5.
    Raises UserError for another `against` or a reference of another form.
    """

    against: str = "reference"
    model: str = "facebook/dinov2-base"
    resize: int = 256
    crop: int = 224

    def __post_init__(self) -> None:
        if self.against not in AGAINST:
            raise UserError(f"dino_similarity: unknown against {self.against!r}{nearest(self.against, AGAINST)}")

    @property
    def spec(self) -> RewardSpec:
        reference = self.against == "reference"
        return RewardSpec(
            "dino_similarity",
            f"how alike the picture and its {'reference' if reference else 'other frames'} look to DINOv2",
            low=-1.0,
            high=1.0,
            needs=("meta.reference",) if reference else (),
            axes=("C", "H", "W") if reference else ("T", "C", "H", "W"),
            differentiable=True,
            source="arXiv 2304.07193; arXiv 2208.12242, section 5",
            weights_licence="Apache-2.0",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        frames = media.frames()
        seen = self.embed(frames)
        score, valid = self._to_reference(seen, prompts) if self.against == "reference" else _to_one_another(seen)
        return RewardOutput(score.masked_fill(~valid, torch.nan), valid)

    def embed(self, frames: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch frames dim"]:
        """Return the class token of each frame, of length 1."""
        model = pretrained("dino_similarity", "AutoModel", self.model).to(frames.device)
        seen = Preprocess(self.crop, IMAGENET, resize=self.resize)(frames.flatten(0, 1).float())
        return normalize(model(pixel_values=seen).last_hidden_state[:, 0], dim=-1).unflatten(0, frames.shape[:2])

    def _to_reference(
        self, seen: Float[Tensor, "batch frames dim"], prompts: Sequence[Prompt]
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        targets = [self._target(prompt, seen) for prompt in prompts]
        valid = torch.tensor([target is not None for target in targets], device=seen.device)
        wanted = torch.stack([torch.zeros_like(seen[0, 0]) if target is None else target for target in targets])
        return (seen * wanted[:, None]).sum(-1).mean(1), valid

    def _target(self, prompt: Prompt, like: Tensor) -> Float[Tensor, " dim"] | None:
        if "reference" not in prompt.meta:
            return None
        picture = prompt.meta["reference"]
        if not isinstance(picture, Tensor) or picture.ndim != 3 or len(picture) != 3 or not picture.is_floating_point():
            kind = tuple(picture.shape) if isinstance(picture, Tensor) else type(picture).__name__
            raise UserError(
                f"dino_similarity: prompt {prompt.text!r}: meta.reference must be a tensor [3, height, width] in "
                f"[0, 1], got {kind}"
            )
        return self.embed(picture[None, None].to(like.device))[0, 0]


def _to_one_another(
    seen: Float[Tensor, "batch frames dim"],
) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Return the mean cosine over pairs of different frames: (|sum_i v_i|^2 - n) / (n (n - 1))."""
    count = seen.shape[1]
    pairs = max(count * (count - 1), 1)
    valid = torch.full((len(seen),), count > 1, device=seen.device)
    return (seen.sum(1).square().sum(-1) - count) / pairs, valid
