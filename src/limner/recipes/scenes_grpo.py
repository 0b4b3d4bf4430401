"""The main job by Flow-GRPO, for comparison: a policy gradient over a window of stochastic steps."""

from __future__ import annotations

from dataclasses import replace

from limner.algorithms.flow_grpo import FlowGRPO
from limner.diffusion.dynamics import FlowSDE
from limner.policies.denoising import Sampler
from limner.recipes.scenes import recipe as scenes
from limner.training.config import RunConfig


def recipe() -> RunConfig:
    """Teach the bundled base to draw what its prompts say, by Flow-GRPO."""
    return replace(
        scenes(),
        name="scenes_grpo",
        algorithm=FlowGRPO(num_updates=2),
        sampler=Sampler(dynamics=FlowSDE(noise_level=0.7), steps=10, window=3, window_range=(0, 4)),
    )
