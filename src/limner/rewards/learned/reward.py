"""What people would say of a picture, by a network that learned it from what they said of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.tree import concatenate
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.learned.explain import by_clause, by_place
from limner.rewards.learned.folder import Card, LearnedReward, place_of, read, read_card
from limner.rewards.learned.motion import as_trained
from limner.rewards.learned.network import COMMON, Ensemble, Said

LOT = 64
"""Pictures, or frames, that the networks see at once."""


@dataclass(frozen=True)
class Learned:
    """Return the worth of a picture for its prompt, in nats: a true lead of w is preferred with sigmoid(w).

    `folder` is what `limner reward train` wrote, or where `limner reward promote` put it. The score is the first
    question's, calibrated, to whom `taste` names; the others are components. `uncertainty` is how much the members of
    the ensemble, and each by itself, are unsure, and what they share. The mean over frames; a picture that is not
    finite is invalid. With `explain`, which takes some 300 looks at each, the answer also says what each clause of
    the prompt and each place of the picture adds (`explain.py`).
    """

    folder: str = ""
    taste: str = ""
    """The annotator as whom it judges, if it was trained with `design.tastes`; "": as all of them together."""
    explain: bool = False
    """Whether the answer says by clause and by place what the score comes from."""

    @property
    def spec(self) -> RewardSpec:
        """What its card says."""
        card = read_card(place_of(self._given()))
        self._person(card)
        return RewardSpec(
            "learned",
            card.about + (f"; as {self.taste} does" if self.taste else ""),
            unit="nats",
            needs=("prompt",),
            components={name: f"nats: what is preferred when asked about {name}" for name in card.questions[1:]},
            differentiable=card.design.kind != "vlm",
            maps={"where": "nats: what this place adds, over a grey picture; the places add up"}
            if self.explain
            else {},
            version=card.weights[:12],
            source=f"limner reward train, {self.folder}",
            weights_licence="that of the votes",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        learned = read(place_of(self._given()))
        frames = media.frames().float()
        valid = frames.isfinite().flatten(1).all(1)
        shown, texts = _shown(frames, learned.card), [prompt.text for prompt in prompts]
        ensemble, person = learned.ensemble.to(shown.device), self._person(learned.card)
        said = [concatenate(each) for each in zip(*_said(ensemble, shown, texts), strict=True)]
        mean, std = (column * shown.new_tensor(learned.card.scale) for column in ensemble.together(said, person))
        mean = mean.where(valid[:, None], torch.nan)
        parts = {name: mean[:, i] for i, name in enumerate(learned.card.questions) if i > 0}
        unsure = (std[:, 0].square() + learned.card.shared[0] ** 2).sqrt()
        output = RewardOutput(mean[:, 0], valid, parts, unsure)
        return self._explained(learned, output, shown[:, shown.shape[1] // 2], texts) if self.explain else output

    def _explained(
        self,
        learned: LearnedReward,
        output: RewardOutput,
        pixels: Float[Tensor, "n 3 height width"],
        texts: Sequence[str],
    ) -> RewardOutput:
        """Add what the score comes from; of a clip, that of its middle frame, as a picture."""
        ensemble, person, scale = learned.ensemble, self._person(learned.card), learned.card.scale[0]

        def score(some: Tensor, asked: Sequence[str]) -> Tensor:
            said = [ensemble.together(each, person) for each in _said(ensemble, some[:, None], asked)]
            return scale * torch.cat([each.mean[:, 0] for each in said])

        both = list(zip(pixels.detach(), texts, strict=True))
        places = torch.stack([by_place(score, picture, text) for picture, text in both])
        told = [str(by_clause(score, picture, text)) for picture, text in both]
        return replace(output, explanation=told, maps={"where": places})

    def members(self, media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, "members n"]:
        """Return what each member of the ensemble says to the first question: its calibrated worth."""
        learned = read(place_of(self._given()))
        shown, person = _shown(media.frames().float(), learned.card), self._person(learned.card)
        lots = _said(learned.ensemble, shown, [prompt.text for prompt in prompts])
        said = [learned.ensemble.each(lot, person) for lot in lots]
        return learned.card.scale[0] * torch.cat([torch.stack([each.mean[:, 0] for each in lot]) for lot in said], 1)

    def _person(self, card: Card) -> int:
        """Return the place of the annotator among those that are known. Raises UserError for another."""
        if not self.taste:
            return COMMON
        if self.taste not in card.people:
            known = nearest(self.taste, card.people) if card.people else "; train it with --design.tastes 1"
            raise UserError(f"reward learned: {self.folder} does not know the taste of {self.taste!r}{known}")
        return card.people.index(self.taste)

    def _given(self) -> str:
        if not self.folder:
            raise UserError("reward learned: name its folder, as in learned(folder='runs/taste')")
        return self.folder


def _shown(frames: Float[Tensor, "n frames 3 height width"], card: Card) -> Float[Tensor, "n some 3 height width"]:
    """Return all frames as pixels; of a reward that goes by motion too, as many as it learned from."""
    pixels = frames.nan_to_num(0.0, 0.0, 0.0).clamp(0, 1)
    return as_trained(pixels, card.trained["frames"]) if card.design.motion else pixels


def _said(
    ensemble: Ensemble, shown: Float[Tensor, "n frames 3 height width"], texts: Sequence[str]
) -> list[list[Said]]:
    """Return what each member says of clips, each with its text, some clips at a time."""
    frames = shown.shape[1]
    some = max(1, LOT // frames)
    lots = [slice(i, i + some) for i in range(0, len(texts), some)]
    return [ensemble.say(ensemble.see(shown[lot].flatten(0, 1)), texts[lot], frames) for lot in lots]
