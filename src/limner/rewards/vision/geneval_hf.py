"""GenEval's checks on transformers' models: are the asked things there, so many, in their colours and places?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.vision.clip import clip
from limner.rewards.vision.geneval import CLAUSES, judge, require_form
from limner.rewards.vision.segment import Instance, instances
from limner.rewards.vision.weights import pretrained

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TEXTS = ("a photo of a {c} {n}", "a photo of a {c}-colored {n}", "a photo of a {c} object")
SURE, SURE_TO_COUNT, MOST = 0.3, 0.9, 16
"""Least score of an instance, and where the task is counting; most instances of a class."""
GREY = 0.6
"""What hides everything but the thing whose colour is asked (#999)."""
SYNONYMS = {
    "computer mouse": "mouse",
    "tv remote": "remote",
    "computer keyboard": "keyboard",
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "potted plant": "pottedplant",
    "dining table": "diningtable",
    "tv": "tvmonitor",
}
"""GenEval's name, and that of some models' labels."""


@dataclass(frozen=True)
class GenEvalHF:
    """Score 1 if the picture satisfies every clause of GenEval's line in `meta`, else 0; the mean over frames.

    `meta` has `include`, a list of {"class", "count", maybe "color", maybe "position": [relation, index of another]},
    maybe `exclude` and `tag`, as in GenEval's own files. `strict` wants exactly the count (as Flow-GRPO's reward does)
    where GenEval is content with more. Components say how many clauses hold. A prompt without `include` cannot be
    judged. Not GenEval's own detector: publish the agreement before comparing with its tables.
    Source: GenEval (arXiv 2310.11513), section 3. Raises UserError for a class that the model does not know.
    """

    strict: bool = False
    model: str = "facebook/mask2former-swin-small-coco-instance"
    colours: str = "openai/clip-vit-large-patch14"
    resize: int = 800

    @property
    def spec(self) -> RewardSpec:
        part = "0 to 1: the share of such clauses that hold, 1 where there is none"
        return RewardSpec(
            "geneval_hf",
            "1 if everything asked is there, so many, in its colour and place (GenEval on transformers), else 0",
            low=0.0,
            high=1.0,
            needs=("meta.include",),
            components={"fraction": "0 to 1: the share of all clauses that hold", **dict.fromkeys(CLAUSES, part)},
            source="arXiv 2310.11513, section 3",
            weights_licence="MIT (CLIP); Mask2Former: see its model card",
        )

    @torch.no_grad()
    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        frames = media.frames()
        rows = [
            [self._frame(frame, prompt) for frame in sample] for sample, prompt in zip(frames, prompts, strict=True)
        ]
        table = torch.tensor(rows, dtype=torch.float32).mean(1)
        score, fraction, *parts = table.unbind(1)
        return RewardOutput(score, score.isfinite(), {"fraction": fraction, **dict(zip(CLAUSES, parts, strict=True))})

    def _frame(self, frame: Float[Tensor, "3 height width"], prompt: Prompt) -> tuple[float, ...]:
        require_form(prompt.meta, prompt.text)
        wanted = [*prompt.meta.get("include", []), *prompt.meta.get("exclude", [])]
        if not prompt.meta.get("include"):
            return (math.nan,) * (2 + len(CLAUSES))
        model = pretrained("geneval_hf", "Mask2FormerForUniversalSegmentation", self.model).to(frame.device)
        labels = {entry["class"]: _label(entry["class"], model.config.id2label.values()) for entry in wanted}
        least = SURE_TO_COUNT if prompt.meta.get("tag") == "counting" else SURE
        seen = [instance for instance in instances(model, frame, self.resize) if instance.score > least]
        found = {name: [i for i in seen if i.label == label][:MOST] for name, label in labels.items()}
        return judge(found, prompt.meta, lambda thing, name: self._colour(frame, thing, name), self.strict)

    def _colour(self, frame: Float[Tensor, "3 height width"], thing: Instance, name: str) -> str:
        """Return the colour that CLIP gives to the thing alone: each colour is the mean of three texts."""
        loaded = clip("geneval_hf", self.colours)
        x0, y0, x1, y1 = (int(edge) for edge in thing.box)
        alone = frame.where(thing.mask, GREY)[:, y0:y1, x0:x1]
        texts = [text.format(c=colour, n=name) for colour in COLOURS for text in TEXTS]
        classes = normalize(loaded.texts(texts, frame.device).unflatten(0, (len(COLOURS), len(TEXTS))).mean(1), dim=-1)
        return COLOURS[int((classes @ loaded.pictures(alone[None, None])[0, 0]).argmax())]


def _label(name: str, known: Iterable[str]) -> str:
    for label in (name, SYNONYMS.get(name, name)):
        if label in known:
            return label
    raise UserError(f"geneval_hf: meta: the model knows no class {name!r}{nearest(name, known)}")
