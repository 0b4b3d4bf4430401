"""A rubric: a number for each of a few named criteria, with the judge's reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.rewards.vlm.asking import Asking, ask, version
from limner.rewards.vlm.forms import Rubric, read_rubric
from limner.rewards.vlm.message import about, form, pictures, request
from limner.rewards.vlm.reply import Unreadable, clean, json_object
from limner.rewards.vlm.templates import RUBRICS


@dataclass(frozen=True)
class VLMRubric(Asking):
    """Ask a vision-language model for the numbers of a rubric; score (mean - low) / (high - low), in [0, 1].

    The rubric is the `preset` of that name, or the file `template` (YAML or JSON: `criteria`, `low`, `high`,
    `optional`, `fps`: frames a second by which clips are shown, however many; else `frames` of each). The reply must be
    one JSON object that holds a number in range for every criterion, else the sample is invalid; where the rubric
    allows null, such a criterion is NaN and leaves the mean. The components are the numbers as given. `reason` has the
    judge explain itself first: its words are kept as the explanation, cleaned and cut, and are to be trusted no more
    than the picture. `guided` asks the service to enforce the reply's form; turn it off for one that refuses. The other
    settings are those of `VLMYesNo`; the prompt is read.
    """

    preset: str = "unified_reward"
    template: str = ""
    reason: bool = True
    guided: bool = True
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UserError(f"vlm_rubric: max_tokens must be 1 or more, got {self.max_tokens}")
        if not self.template and self.preset not in RUBRICS:
            raise UserError(f"vlm_rubric: unknown preset {self.preset!r}{nearest(self.preset, RUBRICS)}")
        self.service.check()
        _ = self.rubric  # a file that is none is refused now

    @cached_property
    def rubric(self) -> Rubric:
        """What it asks for; a file is read once."""
        return read_rubric(self.template) if self.template else RUBRICS[self.preset]

    @property
    def spec(self) -> RewardSpec:
        """Its description; the version changes with rubric, model, address and settings."""
        rubric = self.rubric
        unit = f"{rubric.low:g} to {rubric.high:g}{', NaN where it does not apply' if rubric.optional else ''}"
        return RewardSpec(
            name="vlm_rubric",
            about=f"a vision-language model's mean of {', '.join(rubric.criteria)}",
            low=0.0,
            high=1.0,
            needs=("prompt",),
            axes=("T", "C", "H", "W"),
            components={name: f"{meaning}, {unit}" for name, meaning in rubric.criteria.items()},
            elsewhere=True,
            version=version(
                *(task(rubric, self.reason), rubric.low, rubric.high, rubric.optional, self.url, self.model),
                *(self.guided, self.max_tokens, self.frames),
            ),
            source=rubric.source,
            weights_licence="that of the model behind the URL",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        rubric, asked = self.rubric, task(self.rubric, self.reason)
        number = {"type": ["number", "null"] if rubric.optional else "number"}
        numbers = dict.fromkeys(rubric.criteria, number)
        extra = {"response_format": form(numbers, self.reason)} if self.guided else {}
        requests = [
            None if sample is None else {**request(about(sample, prompt, asked), self.max_tokens), **extra}
            for sample, prompt in zip(pictures(media, self.frames, rubric.fps), prompts, strict=True)
        ]

        def read(payload: Mapping[str, Any]) -> tuple[list[float], str]:
            reply = json_object(payload)
            return read_numbers(rubric, reply), clean(str(reply.get("reason", "")))

        verdicts = ask("vlm_rubric", self.service, requests, read)
        nothing = [torch.nan] * len(rubric.criteria)
        values = torch.tensor([v.value[0] if v.value else nothing for v in verdicts]).reshape(-1, len(nothing))
        return RewardOutput(
            (values.nanmean(1) - rubric.low) / (rubric.high - rubric.low),
            torch.tensor([v.value is not None for v in verdicts], dtype=torch.bool),
            dict(zip(rubric.criteria, values.T, strict=True)),
            explanation=[(v.value[1] if v.value else v.reason) or None for v in verdicts],
        )


def task(rubric: Rubric, reason: bool) -> str:
    """Return the text that asks for a rubric's numbers as one JSON object, the reason before them if wanted."""
    lines = "\n".join(f'- "{name}": {meaning}' for name, meaning in rubric.criteria.items())
    null = " If a criterion does not apply, give null." if rubric.optional else ""
    pace = f"The frames are {rubric.fps:g} of each second of the video. " if rubric.fps is not None else ""
    first = '"reason" (a short text that weighs what speaks for and against), then ' if reason else ""
    keys = ", ".join(f'"{name}"' for name in rubric.criteria)
    return (
        f"{pace}Judge what you see by these criteria, each by a number from {rubric.low:g} (worst) to {rubric.high:g} "
        f"(best); decimals are allowed.{null}\n{lines}\n"
        f"Reply with one JSON object and nothing else. Its keys are {first}{keys}."
    )


def read_numbers(rubric: Rubric, reply: Mapping[str, Any]) -> list[float]:
    """Return a reply's numbers in the rubric's order, NaN for an allowed null.

    Raises Unreadable for a criterion that is missing, no number, or out of range, and if none applies.
    """
    numbers = []
    for name in rubric.criteria:
        value = reply.get(name)
        if value is None and rubric.optional and name in reply:
            numbers.append(torch.nan)
        elif isinstance(value, int | float) and not isinstance(value, bool) and rubric.low <= value <= rubric.high:
            numbers.append(float(value))
        else:
            got = clean(repr(value)) if name in reply else "nothing"
            raise Unreadable(f"the reply's {name} is no number from {rubric.low:g} to {rubric.high:g}: {got}")
    if all(value != value for value in numbers):
        raise Unreadable("the reply says that no criterion applies")
    return numbers
