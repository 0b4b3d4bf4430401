"""Teach the words base to spell, with a genuine OCR engine as judge: Flow-GRPO's second task in miniature."""

from __future__ import annotations

from dataclasses import replace

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.recipes.scenes import recipe as scenes
from limner.training.config import RunConfig


def recipe() -> RunConfig:
    """Teach the words base to write what its prompts quote, as an OCR engine reads it (minutes on two cores)."""
    base = scenes()
    return replace(
        base,
        name="words",
        model=replace(base.model, path="words"),
        prompts="words:train",
        reward="ocr",
        algorithm=DiffusionNFT(kl_weight=0.0, num_times=3, min_time=0.5, decay="none"),
        evaluation=replace(base.evaluation, prompts="words:heldout", reward="ocr(metric='exact')"),
        steps=36,
    )
