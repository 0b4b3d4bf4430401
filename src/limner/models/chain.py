"""Pipelines over DDPM's variance-preserving chain: which schedulers are one, their noise levels, and DDIM's times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from limner.diffusion.prediction import PredictionKind
from limner.diffusion.schedule import Schedule, VariancePreserving
from limner.diffusion.timesteps import Grid
from limner.models.honoured import Honoured

PREDICTIONS: Mapping[str, PredictionKind] = {"epsilon": "noise", "v_prediction": "v_prediction", "sample": "x0"}
CHAIN = Honoured(
    classes=tuple(
        f"{name}Scheduler"
        for name in (
            "DDIM DDPM DEISMultistep DPMSolverMultistep DPMSolverSDE DPMSolverSinglestep EulerAncestralDiscrete "
            "EulerDiscrete HeunDiscrete KDPM2AncestralDiscrete KDPM2Discrete LMSDiscrete PNDM UniPCMultistep"
        ).split()
    ),
    free=frozenset(
        "beta_end beta_schedule beta_start num_train_timesteps rescale_betas_zero_snr set_alpha_to_one steps_offset "
        "timestep_spacing trained_betas".split()
    ),
    only={
        "clip_sample": (False,),
        "prediction_type": ("epsilon", "v_prediction", "sample"),
        "thresholding": (False,),
        "timestep_type": ("discrete",),
        "use_flow_sigmas": (False,),
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    },
    idle=frozenset(  # how diffusers' own sampler steps and spaces its levels: limner's sampler is chosen, not read
        "algorithm_type clip_sample_range disable_corrector dynamic_thresholding_ratio euler_at_final "
        "final_sigmas_type flow_shift interpolation_type lambda_min_clipped lower_order_final noise_sampler_seed "
        "predict_x0 sample_max_value shift_terminal sigma_max sigma_min skip_prk_steps solver_order solver_p "
        "solver_type time_shift_type use_beta_sigmas use_dynamic_shifting use_exponential_sigmas use_karras_sigmas "
        "use_lu_lambdas".split()
    ),
)
"""Of which DDIM is made, whatever the pipeline's scheduler is; all of the classes are one chain with other steps."""


def chain(scheduler: Any, kind: Any = DDIMScheduler) -> tuple[VariancePreserving, PredictionKind]:
    """Return the noise levels of a scheduler's chain, as its class or the `kind` has them, and what is predicted."""
    levels = kind.from_config(scheduler.config).alphas_cumprod
    return VariancePreserving(levels), PREDICTIONS[scheduler.config.get("prediction_type", "epsilon")]


def chain_times(scheduler: Any, steps: int, grid: Grid, kind: Any = DDIMScheduler) -> Float[Tensor, " points"]:
    """Return DDIM's `steps + 1` times; the last is clean data, or 1 / T where `set_alpha_to_one` is false.

    Each step goes to the next of these times; diffusers' own goes T / steps indices down, which is the same for the
    spacings "leading" and "trailing", and another time for "linspace". "linear" are equal steps from the last level to
    clean data.
    """
    made = kind.from_config(scheduler.config)
    schedule = VariancePreserving(made.alphas_cumprod)
    if grid == "linear":
        return schedule.time(torch.linspace(len(made.alphas_cumprod) - 1, -1, steps + 1).round().long())
    made.set_timesteps(steps)
    end = -1 if made.config.set_alpha_to_one else 0
    return schedule.time(torch.cat([made.timesteps, torch.tensor([end])]))


def level(schedule: Schedule, t: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """Return the noise levels of a chain that its network is told at times t: the nearest ones."""
    return cast(VariancePreserving, schedule).index(t).clamp(min=0)
