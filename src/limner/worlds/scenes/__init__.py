"""The scenes world: captions, pictures, and an exact checker that reads pixels only."""

from __future__ import annotations

from limner.worlds.scenes.checker import Detection, Verdict, check, check_batch, detect
from limner.worlds.scenes.grammar import (
    CATEGORIES,
    VOCABULARY,
    Item,
    Scene,
    caption,
    is_heldout,
    noisy_caption,
    parse,
    prompts,
    sample_prompt,
    sample_scene,
    to_prompt,
)

__all__ = [
    "CATEGORIES",
    "VOCABULARY",
    "Detection",
    "Item",
    "Scene",
    "Verdict",
    "caption",
    "check",
    "check_batch",
    "detect",
    "is_heldout",
    "noisy_caption",
    "parse",
    "prompts",
    "sample_prompt",
    "sample_scene",
    "to_prompt",
]
