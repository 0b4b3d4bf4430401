"""Teach the emoji base to draw what its captions name: a small text-image judge teaches, another one measures."""

from __future__ import annotations

from dataclasses import replace

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.recipes.scenes import recipe as scenes
from limner.training.config import RunConfig


def recipe() -> RunConfig:
    """Teach the emoji base to draw what its captions name, by a judge on real pictures (minutes on two cores)."""
    base = scenes()
    return replace(
        base,
        name="emoji",
        model=replace(base.model, path="emoji"),
        prompts="emoji:train",
        reward="emoji",
        algorithm=DiffusionNFT(kl_weight=0.0, num_times=3, min_time=0.5, decay="none"),
        optimizer=replace(base.optimizer, lr=1e-3),
        evaluation=replace(base.evaluation, prompts="emoji:heldout", reward="emoji_second"),
    )
