"""The main job with a GAN: what its noise becomes is learnt, by the slope of a surrogate of the judge."""

from __future__ import annotations

from dataclasses import replace

from limner.algorithms.surrogate_gradient import SurrogateGradient
from limner.models.gan.settings import GANSettings
from limner.policies.one_step import OneStepSampler
from limner.recipes.scenes import recipe as scenes
from limner.training.config import Evaluation, Optimizer, RunConfig


def recipe() -> RunConfig:
    """Teach the bundled GAN to draw what its prompts say, by noise that is led before it is given to the generator."""
    base = scenes()
    return replace(
        base,
        name="scenes_gan",
        model=replace(base.model, path="scenes_gan", settings=GANSettings("noise")),
        algorithm=SurrogateGradient(surrogate_steps=24, kl_weight=0.3, num_updates=2),
        sampler=OneStepSampler("noise", noise=0.1),
        optimizer=Optimizer(lr=1e-3, ema=0.8),
        evaluation=Evaluation(prompts="scenes:heldout", reward="scenes", seeds=4, every=10),
        steps=40,
        prompts_per_step=72,
        group_size=8,
    )
