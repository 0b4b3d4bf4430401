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

from limner.registry.names import ALGORITHMS, DYNAMICS, SAMPLERS, SOURCES

_HOMES = {
    "Prompt": "limner.core.types:Prompt",
    "Images": "limner.core.media:Images",
    "RewardOutput": "limner.core.types:RewardOutput",
    "UserError": "limner.core.errors:UserError",
    "RunError": "limner.core.errors:RunError",
    "JudgeFailure": "limner.core.errors:JudgeFailure",
    **ALGORITHMS,
    **DYNAMICS,
    **SAMPLERS,
    **SOURCES,
    "Needs": "limner.core.needs:Needs",
    "given": "limner.training.source:given",
    "RunConfig": "limner.training.config:RunConfig",
    "Model": "limner.training.config:Model",
    "Lora": "limner.training.config:Lora",
    "Full": "limner.training.config:Full",
    "DataAnchor": "limner.training.config:DataAnchor",
    "NamedSampler": "limner.training.config:NamedSampler",
    "Optimizer": "limner.training.config:Optimizer",
    "Precision": "limner.training.config:Precision",
    "Evaluation": "limner.training.config:Evaluation",
    "recipe": "limner.recipes.source:recipe",
    "preset": "limner.recipes.presets:preset",
    "override": "limner.recipes.override:override",
    "Run": "limner.run:Run",
    "check": "limner.run:check",
    "train": "limner.run:train",
    "open_run": "limner.run:open_run",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'limner' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return vars(importlib.import_module(module))[attribute]


def __dir__() -> list[str]:
    return __all__
