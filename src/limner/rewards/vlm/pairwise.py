"""Two samples side by side: which is better, asked in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.vlm.asking import Asking, ask, version
from limner.rewards.vlm.message import form, pictures, quoted, request, shown, words
from limner.rewards.vlm.reply import Unreadable, clean, json_object
from limner.rewards.vlm.templates import COMPARISONS

SHARES = {"first": 1.0, "second": 0.0, "tie": 0.5}
"""The share of a win that a verdict gives the picture that was shown first."""


@dataclass(frozen=True)
class VLMPairwise(Asking):
    """Ask a vision-language model which of two samples is better; score (share of a shown first + shown second) / 2.

    A win counts 1, a tie 1/2, a loss 0, so a judge that always prefers the same place says 1/2. Both replies must be
    JSON objects whose `winner` is first, second or tie, or the pair is invalid. Components: `a_first` and `a_second`,
    a's share in either order; where they differ the judge went by the place. `preset` names the question, `question`
    replaces it. The other settings are those of `VLMRubric`; the prompt is read. It is a comparer, not a reward.

    Source: both orders and half ties as usual for such judges, for example MT-Bench, arXiv:2306.05685.
    """

    preset: str = "overall"
    question: str = ""
    reason: bool = True
    guided: bool = True
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UserError(f"vlm_pairwise: max_tokens must be 1 or more, got {self.max_tokens}")
        if not self.question and self.preset not in COMPARISONS:
            raise UserError(f"vlm_pairwise: unknown preset {self.preset!r}{nearest(self.preset, COMPARISONS)}")
        self.service.check()

    @property
    def task(self) -> str:
        """The text after the two samples."""
        first = '"reason" (a short text that weighs both), then ' if self.reason else ""
        return (
            f"{self.question or COMPARISONS[self.preset]}\n"
            f'Reply with one JSON object and nothing else. Its keys are {first}"winner": "first", "second" or "tie".'
        )

    @property
    def spec(self) -> RewardSpec:
        """Its description; the version changes with question, model, address and settings."""
        return RewardSpec(
            name="vlm_pairwise",
            about=f"a vision-language model's choice of two: {self.question or COMPARISONS[self.preset]}",
            low=0.0,
            high=1.0,
            unit="share of wins",
            needs=("prompt",),
            axes=("T", "C", "H", "W"),
            components={"a_first": "share of a shown first, 0, 1/2 or 1", "a_second": "share of a shown second"},
            elsewhere=True,
            version=version(self.task, self.url, self.model, self.guided, self.max_tokens, self.frames),
            source="UnifiedReward, arXiv:2503.05236; Pref-GRPO, arXiv:2508.20751",
            weights_licence="that of the model behind the URL",
        )

    def compare(self, media_a: Media, media_b: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Return P(a is better than b) for each pair, `valid` where both replies could be read."""
        pairs = list(zip(pictures(media_a, self.frames), pictures(media_b, self.frames), prompts, strict=True))
        requests = [
            self._request(first, second, prompt) for a, b, prompt in pairs for first, second in ((a, b), (b, a))
        ]
        verdicts = ask("vlm_pairwise", self.service, requests, read_winner)
        shares = torch.tensor([v.value[0] if v.value else torch.nan for v in verdicts]).reshape(-1, 2)
        a_first, a_second = shares[:, 0], 1 - shares[:, 1]
        said = [v.value[1] if v.value else v.reason for v in verdicts]
        return RewardOutput(
            (a_first + a_second) / 2,
            shares.isfinite().all(1),
            {"a_first": a_first, "a_second": a_second},
            explanation=[clean(" | ".join(filter(None, said[i : i + 2]))) or None for i in range(0, len(said), 2)],
        )

    def _request(self, first: list[str] | None, second: list[str] | None, prompt: Prompt) -> dict[str, Any] | None:
        if first is None or second is None:
            return None
        material = [*shown(first, "First:"), *shown(second, "Second:")]
        body = request([*material, words(f"{quoted('request', prompt.text)}\n{self.task}")], self.max_tokens)
        return (
            {**body, "response_format": form({"winner": {"enum": list(SHARES)}}, self.reason)} if self.guided else body
        )


def read_winner(payload: Mapping[str, Any]) -> tuple[float, str]:
    """Return the share of a win that a reply gives what was shown first, and its reason, cleaned."""
    reply = json_object(payload)
    winner = reply.get("winner")
    if not isinstance(winner, str) or winner not in SHARES:
        raise Unreadable(f"the reply's winner is not one of {', '.join(SHARES)}: {clean(repr(winner))}")
    return SHARES[winner], clean(str(reply.get("reason", "")))
