"""The motion world: captions, clips with their ground truth, and an exact checker that reads pixels only."""

from __future__ import annotations

from limner.worlds.motion.checker import Verdict, check, track
from limner.worlds.motion.grammar import CATEGORIES, VOCABULARY, Motion, Thing, caption, is_heldout, parse, prompts
from limner.worlds.motion.render import Clip, render

__all__ = [
    "CATEGORIES",
    "VOCABULARY",
    "Clip",
    "Motion",
    "Thing",
    "Verdict",
    "caption",
    "check",
    "is_heldout",
    "parse",
    "prompts",
    "render",
    "track",
]
