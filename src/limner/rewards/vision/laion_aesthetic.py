"""LAION's aesthetic predictor: a linear head on CLIP's view of the picture."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardSpec
from limner.rewards.vision.clip import clip
from limner.rewards.vision.weights import fill, read_weights

WIDTHS = (1024, 128, 64, 16, 1)
PLACES = (0, 2, 4, 6, 7)
"""Where the linear layers stand in the published file; dropout, idle at evaluation, has the places between."""


@dataclass(frozen=True)
class LaionAesthetic:
    """Score the rating, about 1 to 10, that people would give the picture; the mean over frames.

    Five linear layers, with nothing between them, on CLIP's embedding of length 1. `head` is the published file
    (`sac+logos+ava1-l14-linearMSE.pth`, or the same in safetensors), `model` the CLIP ViT-L/14 that it was trained on.
    The prompt is not read. Source: LAION, improved-aesthetic-predictor.
    Raises UserError if no head is given, or it does not fit.
    """

    head: str = ""
    model: str = "openai/clip-vit-large-patch14"

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "laion_aesthetic",
            "the rating, about 1 to 10, that people would give the picture for its looks",
            unit="rating",
            differentiable=True,
            source="LAION, improved-aesthetic-predictor",
            weights_licence="MIT (CLIP); the head: see improved-aesthetic-predictor",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
        if not self.head:
            raise UserError("laion_aesthetic: give head, the file sac+logos+ava1-l14-linearMSE.pth of its authors")
        frames, loaded = media.frames(), clip("laion_aesthetic", self.model)
        head = _head(self.head, loaded.model.config.projection_dim).to(frames.device)
        rating: Float[Tensor, "batch frames 1"] = head(loaded.pictures(frames))
        return rating[..., 0].mean(1)


@functools.cache
def _head(path: str, width: int) -> nn.Module:
    """Return the five layers with the published weights, `layers.PLACE.weight` and `.bias`."""
    state = read_weights("laion_aesthetic", path)
    inputs = (width, *WIDTHS[:-1])
    head = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(inputs, WIDTHS, strict=True)))
    names = {f"layers.{place}.{part}": f"{i}.{part}" for i, place in enumerate(PLACES) for part in ("weight", "bias")}
    renamed = {names.get(name, name): value for name, value in state.items()}
    return fill("laion_aesthetic", head, renamed, path)
