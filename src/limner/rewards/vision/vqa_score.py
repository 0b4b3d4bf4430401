"""VQAScore: the probability that a model which sees the picture says yes, it shows what the prompt says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.vision.question import asked
from limner.rewards.vision.weights import pretrained

YES, NO = ("Yes", "yes"), ("No", "no")


@dataclass(frozen=True)
class VqaScore:
    """Score P("Yes" | picture, question), the mean over frames, in [0, 1]; the first token of the answer decides.

    The question is `question` with the prompt at `{}`; P sums over the first tokens of "Yes" and "yes" ("No" and "no").
    `normalised` divides by P(yes) + P(no). `model` is a folder or hub id of an image-text-to-text model of
    transformers with its processor; one that has a chat template is asked through it, another by the bare question
    after its image token. Source: VQAScore (arXiv 2404.01291), eq. 1. No gradient: the processor works on 8 bits.
    Raises UserError for a question without exactly one {}.
    """

    model: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    question: str = 'Does this figure show "{}"? Please answer yes or no.'
    normalised: bool = False

    def __post_init__(self) -> None:
        if self.question.count("{}") != 1:
            raise UserError(
                f"vqa_score: the question needs exactly one {{}}, where the prompt goes, got {self.question!r}"
            )

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "vqa_score",
            "the probability that a vision-language model says yes, the picture shows its prompt",
            low=0.0,
            high=1.0,
            unit="probability",
            needs=("prompt",),
            components={"yes": "0 to 1: P(yes)", "no": "0 to 1: P(no)"},
            source="arXiv 2404.01291, eq. 1",
            weights_licence="the model's own",
        )

    @torch.no_grad()
    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        frames = (media.frames().clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
        device = media.frames().device
        answers = [
            torch.stack([self._answer(Image.fromarray(frame), prompt.text, device) for frame in sample]).mean(0)
            for sample, prompt in zip(frames, prompts, strict=True)
        ]
        yes, no = torch.stack(answers).unbind(1)
        score = yes / (yes + no) if self.normalised else yes
        return RewardOutput(score, score.isfinite(), {"yes": yes, "no": no})

    def _answer(self, picture: Image.Image, text: str, device: torch.device) -> Float[Tensor, "2"]:
        """Return P(yes) and P(no)."""
        processor = pretrained("vqa_score", "AutoProcessor", self.model)
        model = pretrained("vqa_score", "AutoModelForImageTextToText", self.model).to(device)
        inputs = processor(
            text=[asked(processor, self.question.replace("{}", text))], images=[picture], return_tensors="pt"
        )
        probability = model(**inputs.to(device)).logits[0, -1].float().softmax(-1)
        return torch.stack([probability[_first(processor.tokenizer, words)].sum() for words in (YES, NO)])


def _first(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """Return the first tokens of some words, each once."""
    return sorted({tokenizer.encode(word, add_special_tokens=False)[0] for word in words})
