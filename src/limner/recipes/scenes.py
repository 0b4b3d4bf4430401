"""The main job: teach the scenes base to satisfy its prompts, against the exact checker, in minutes on two cores."""

from __future__ import annotations

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.diffusion.dynamics import DPMSolver
from limner.models.sd3.settings import SD3Settings
from limner.policies.denoising import Sampler
from limner.training.config import Evaluation, Lora, Model, Optimizer, RunConfig


def recipe() -> RunConfig:
    """Teach the bundled base to draw what its prompts say (main job, minutes on two cores)."""
    return RunConfig(
        name="scenes",
        model=Model(path="scenes", settings=SD3Settings(max_sequence_length=0), train=Lora(rank=32, alpha=64)),
        prompts="scenes:train",
        reward="0.5 * scenes + 0.5 * scenes.fraction",
        algorithm=DiffusionNFT(kl_weight=0.0, num_times=3, min_time=0.5, decay="linear", decay_rate=0.02),
        sampler=Sampler(dynamics=DPMSolver(), steps=10, grid="linear"),
        optimizer=Optimizer(lr=3e-3, warmup=2, schedule="cosine", ema=0.8),
        evaluation=Evaluation(prompts="scenes:heldout", reward="scenes", seeds=4, every=12, ode_steps=10, guidance=4.0),
        steps=72,
        prompts_per_step=12,
        group_size=12,
        micro_batch=144,
    )
