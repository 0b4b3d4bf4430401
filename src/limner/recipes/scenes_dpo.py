"""The main job from pairs alone: which of two pictures is better was said before, and no judge is asked."""

from __future__ import annotations

from dataclasses import replace

from limner.algorithms.dpo import DPO
from limner.learning.restoration import Noising
from limner.recipes.scenes import recipe as scenes
from limner.training.config import RunConfig
from limner.training.source import Preferences


def recipe() -> RunConfig:
    """Teach the bundled base from pairs that `limner pairs make scenes` wrote, by Diffusion-DPO."""
    base = scenes()
    return replace(
        base,
        name="scenes_dpo",
        prompts="",
        reward="",
        source=Preferences("runs/pairs-scenes"),
        algorithm=DPO(beta=20.0, noising=Noising(num_times=3, min_time=0.5)),
        prompts_per_step=72,
        group_size=2,
    )
