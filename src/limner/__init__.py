"""limner: reinforcement learning for visual generative models.

    import limner

    run = limner.train("scenes")                      # or a RunConfig, or a config.yaml
    run.sample("two red stars").pixels                # [4, 3, 64, 64] in [0, 1]
    run.export("my-lora")                             # a LoRA that diffusers loads

Names are loaded when they are used, so that `import limner` is instant.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Prompt": "limner.core.types",
    "Images": "limner.core.media",
    "RewardOutput": "limner.core.types",
    "UserError": "limner.core.errors",
    "RunError": "limner.core.errors",
    "JudgeFailure": "limner.core.errors",
    "DGPO": "limner.algorithms.dgpo",
    "DDPO": "limner.algorithms.ddpo",
    "PPO": "limner.algorithms.ppo",
    "TRPO": "limner.algorithms.trpo",
    "FlowDPPO": "limner.algorithms.flow_dppo",
    "FlowGRPO": "limner.algorithms.flow_grpo",
    "GRPOGuard": "limner.algorithms.grpo_guard",
    "AWM": "limner.algorithms.awm",
    "DiffusionNFT": "limner.algorithms.diffusion_nft",
    "RewardWeighted": "limner.algorithms.reward_weighted",
    "DPMSolver": "limner.diffusion.dynamics",
    "EulerODE": "limner.diffusion.dynamics",
    "FlowSDE": "limner.diffusion.dynamics",
    "DanceSDE": "limner.diffusion.dynamics",
    "CPS": "limner.diffusion.dynamics",
    "DDIM": "limner.diffusion.dynamics",
    "RunConfig": "limner.training.config",
    "Model": "limner.training.config",
    "Lora": "limner.training.config",
    "Full": "limner.training.config",
    "Sampler": "limner.policies.denoising",
    "DataAnchor": "limner.training.config",
    "NamedSampler": "limner.training.config",
    "Optimizer": "limner.training.config",
    "Precision": "limner.training.config",
    "Evaluation": "limner.training.config",
    "recipe": "limner.registry",
    "preset": "limner.recipes.presets",
    "override": "limner.recipes.override",
    "Run": "limner.run",
    "check": "limner.run",
    "train": "limner.run",
    "open_run": "limner.run",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'limner' has no attribute {name!r}")
    return vars(importlib.import_module(_HOMES[name]))[name]


def __dir__() -> list[str]:
    return __all__
