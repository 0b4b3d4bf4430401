"""One yes/no question about each sample, answered by a probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.vlm.asking import Asking, ask, version
from limner.rewards.vlm.message import about, pictures, yes_no_request
from limner.rewards.vlm.reply import yes_no
from limner.rewards.vlm.templates import ANSWER, YES_NO

MAX_TOP = 20
"""What the protocol allows."""


@dataclass(frozen=True)
class VLMYesNo(Asking):
    """Ask a vision-language model one question; score P(yes) / (P(yes) + P(no)) of the first token, in [0, 1].

    P sums over spellings among the `top` most probable first tokens; `mass` is P(yes) + P(no): how much the model meant
    to answer at all. A sample is invalid where neither is among them, or no log-probabilities came. The prompt is read.

    `url` is that of any OpenAI-compatible service, `model` a name it knows (empty: the one it has), `key_env` the
    environment variable with its API key. Of a video at most `frames` frames are shown. A request has `tries` tries of
    `timeout_s` seconds each; `workers` are sent at a time. Asked at temperature 0, most services repeat themselves but
    for rounding. Source: VQAScore, arXiv:2404.01291; relative to P(no) as in Flow-Factory's VLM reward.
    """

    question: str = YES_NO
    top: int = MAX_TOP

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise UserError("vlm_yes_no: question is empty; leave it out for the usual one")
        if not 2 <= self.top <= MAX_TOP:
            raise UserError(f"vlm_yes_no: top must be 2 to {MAX_TOP} tokens, got {self.top}")
        self.service.check()

    @property
    def spec(self) -> RewardSpec:
        """Its description; the version changes with question, model, address and settings."""
        return RewardSpec(
            name="vlm_yes_no",
            about=f"a vision-language model's probability of yes to: {self.question}",
            low=0.0,
            high=1.0,
            unit="probability",
            needs=("prompt",),
            axes=("T", "C", "H", "W"),
            components={"mass": "P(yes) + P(no), in [0, 1]"},
            elsewhere=True,
            version=version(ANSWER, self.question, self.url, self.model, self.top, self.frames),
            source="VQAScore, arXiv:2404.01291",
            weights_licence="that of the model behind the URL",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        task = f"{self.question} {ANSWER}"
        requests = [
            None if sample is None else yes_no_request(about(sample, prompt, task), self.top)
            for sample, prompt in zip(pictures(media, self.frames), prompts, strict=True)
        ]
        verdicts = ask("vlm_yes_no", self.service, requests, yes_no)
        values = torch.tensor([v.value or (torch.nan, torch.nan) for v in verdicts]).reshape(-1, 2)
        valid = torch.tensor([v.value is not None for v in verdicts], dtype=torch.bool)
        return RewardOutput(
            values[:, 0], valid, {"mass": values[:, 1]}, explanation=[v.reason or None for v in verdicts]
        )
