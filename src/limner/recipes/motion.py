"""Teach the motion base what its prompts say of time: clips that move as asked, against the exact checker."""

from __future__ import annotations

from dataclasses import replace

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.diffusion.dynamics import DPMSolver
from limner.models.wan.settings import WanSettings
from limner.policies.denoising import Sampler
from limner.recipes.scenes import recipe as scenes
from limner.training.config import Evaluation, Lora, Model, RunConfig


def recipe() -> RunConfig:
    """Teach the bundled Wan base to move things as its prompts say (13 frames of 32 x 32)."""
    base = scenes()
    settings = WanSettings(resolution=32, num_frames=13, fps=8, max_sequence_length=12)
    return replace(
        base,
        name="motion",
        model=Model(path="motion", settings=settings, train=Lora(rank=32, alpha=64)),
        prompts="motion:train",
        reward="0.5 * motion + 0.5 * motion.fraction",
        algorithm=DiffusionNFT(kl_weight=0.0, num_times=1, min_time=0.5, decay="linear", decay_rate=0.02),
        sampler=Sampler(dynamics=DPMSolver(), steps=5, grid="linear"),
        evaluation=Evaluation(prompts="motion:heldout", reward="motion", seeds=4, every=32),
        steps=96,
    )
