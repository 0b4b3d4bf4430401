"""The motion world's checker as rewards."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from limner.core.errors import UserError
from limner.core.media import Media, levels
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import declare
from limner.worlds.motion.checker import CLAUSES, check
from limner.worlds.motion.grammar import parse
from limner.worlds.motion.render import FRAMES, SIZE

_CLAUSE = "0 or 1; 1 where the prompt has no such clause"


@declare(
    RewardSpec(
        "motion",
        "1 if the clip does all that its prompt says, else 0; exact, from the pixels alone",
        low=0.0,
        high=1.0,
        needs=("prompt",),
        axes=("T", "C", "H", "W"),
        components={
            **dict.fromkeys(CLAUSES, _CLAUSE),
            "fraction": "0 to 1: the mean of the clauses that the prompt has",
        },
        source="the motion world's own checker",
    )
)
def motion(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return 1 if the clip does all that its prompt says, else 0; exact, from the pixels alone.

    Components, each 0 or 1 (1 where the prompt has no such clause): identity, count, direction, speed, acceleration,
    bounce, occlusion, order; and `fraction`, the mean of the clauses that the prompt has. Raises UserError for a text
    outside the world's grammar, and for clips of another size.
    """
    return _judged(media, prompts)


@declare(
    RewardSpec(
        "motion_fraction",
        "the share of its prompt's clauses (who, where to, how fast, behind what) that the clip satisfies",
        low=0.0,
        high=1.0,
        needs=("prompt",),
        axes=("T", "C", "H", "W"),
        source="the motion world's own checker",
    )
)
def motion_fraction(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return the share of its prompt's clauses that the clip satisfies."""
    output = _judged(media, prompts)
    return RewardOutput(output.components["fraction"], output.valid)


def _judged(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    frames = media.frames()
    if frames.shape[-2:] != (SIZE, SIZE) or frames.shape[1] != FRAMES:
        got = f"{frames.shape[1]} frames of {tuple(frames.shape[-2:])}"
        raise UserError(f"motion judges clips of {FRAMES} frames of {SIZE} x {SIZE} pixels, got {got}")
    pixels = levels(frames).permute(0, 1, 3, 4, 2).cpu().numpy()
    verdicts = [check(clip, parse(prompt.text)) for clip, prompt in zip(pixels, prompts, strict=True)]
    parts = {name: torch.tensor([float(vars(v)[name]) for v in verdicts]) for name in (*CLAUSES, "fraction")}
    score = torch.tensor([float(v.correct) for v in verdicts])
    return RewardOutput(score, torch.ones(len(prompts), dtype=torch.bool), parts)
