"""What people would say of a picture, by a network that learned it from what they said of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.learned.folder import place_of, read, read_card

LOT = 256
"""Pictures that the networks see at once."""


@dataclass(frozen=True)
class Learned:
    """Return the worth of a picture for its prompt, in nats: of two, one that leads by w is preferred with sigmoid(w).

    `folder` is what `limner reward train` wrote, or where `limner reward promote` put it. The score is the first
    question's, calibrated; the others are components. `uncertainty` is how much the members of the ensemble, and each
    by itself, are unsure, and what they share. The mean over frames; a picture that is not finite is invalid.
    """

    folder: str = ""

    @property
    def spec(self) -> RewardSpec:
        """What its card says."""
        card = read_card(place_of(self._given()))
        return RewardSpec(
            "learned",
            card.about,
            unit="nats",
            needs=("prompt",),
            components={name: f"nats: what is preferred when asked about {name}" for name in card.questions[1:]},
            differentiable=True,
            version=card.weights[:12],
            source=f"limner reward train, {self.folder}",
            weights_licence="that of the votes",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        learned = read(place_of(self._given()))
        frames = media.frames().float()
        valid = frames.isfinite().flatten(1).all(1)
        pixels, texts = _shown(frames, prompts)
        ensemble = learned.ensemble.to(pixels.device)
        lots = [ensemble(pixels[i : i + LOT], texts[i : i + LOT]) for i in range(0, len(texts), LOT)]
        scale = pixels.new_tensor(learned.card.scale)
        mean, std = (
            (torch.cat(columns) * scale).unflatten(0, frames.shape[:2]).mean(1) for columns in zip(*lots, strict=True)
        )
        mean = mean.where(valid[:, None], torch.nan)
        parts = {name: mean[:, i] for i, name in enumerate(learned.card.questions) if i > 0}
        unsure = (std[:, 0].square() + learned.card.shared[0] ** 2).sqrt()
        return RewardOutput(mean[:, 0], valid, parts, unsure)

    def members(self, media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, "members n"]:
        """Return what each member of the ensemble says to the first question: its calibrated worth."""
        learned = read(place_of(self._given()))
        frames = media.frames().float()
        pixels, texts = _shown(frames, prompts)
        said = [learned.ensemble.each(pixels[i : i + LOT], texts[i : i + LOT]) for i in range(0, len(texts), LOT)]
        worth = torch.cat([torch.stack([each.mean[:, 0] for each in lot]) for lot in said], 1)
        return learned.card.scale[0] * worth.unflatten(1, frames.shape[:2]).mean(2)

    def _given(self) -> str:
        if not self.folder:
            raise UserError("reward learned: name its folder, as in learned(folder='runs/taste')")
        return self.folder


def _shown(
    frames: Float[Tensor, "n frames 3 height width"], prompts: Sequence[Prompt]
) -> tuple[Float[Tensor, "shown 3 height width"], list[str]]:
    """Return all frames as pixels, and the text of each."""
    texts = [prompt.text for prompt in prompts for _ in range(frames.shape[1])]
    return frames.nan_to_num(0.0, 0.0, 0.0).clamp(0, 1).flatten(0, 1), texts
