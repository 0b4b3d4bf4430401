"""The main job with tokens: a causal decoder writes the codes of pictures, and a policy gradient teaches it."""

from __future__ import annotations

from dataclasses import replace

from limner.algorithms.flow_grpo import FlowGRPO
from limner.models.tokens.settings import TokensSettings
from limner.policies.tokens import TokenSampler
from limner.recipes.scenes import recipe as scenes
from limner.training.config import Evaluation, RunConfig
from limner.training.critical import Unlike


def recipe() -> RunConfig:
    """Teach the bundled base of tokens to draw what its prompts say, by GRPO over the tokens of a picture."""
    base = scenes()
    return replace(
        base,
        name="scenes_tokens",
        model=replace(base.model, path="scenes_tokens", settings=TokensSettings()),
        algorithm=FlowGRPO(clip_low=0.2, clip_high=0.2, clip_elements=1, num_updates=2),
        sampler=TokenSampler(guidance=2.0, top_p=0.5),
        focus=Unlike(),
        optimizer=replace(base.optimizer, lr=8e-4, schedule="constant"),
        evaluation=Evaluation(prompts="scenes:heldout", reward="scenes", seeds=4, every=12),
        steps=48,
    )
