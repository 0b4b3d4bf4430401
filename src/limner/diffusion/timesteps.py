"""Where on the time axis a sampler stops, which of its steps are stochastic, and which times training draws."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TrainingTimes: TypeAlias = Literal["grid", "logit_normal", "shifted_logit_normal"]
"""Where a finished sample is noised again to: the sampler's own times, logit-normal ones, or these shifted by 3."""
Grid: TypeAlias = Literal["own", "linear"]
"""A model's grid: that of its library's scheduler, or equal steps from 1 to 0, shifted as that scheduler shifts."""
WindowSchedule: TypeAlias = Literal["random", "progressive", "decay", "exp_decay"]
"""How a window of stochastic steps is placed: drawn for each group, or sliding over the iterations."""


def time_shift(t: Float[Tensor, "*any"], shift: float) -> Float[Tensor, "*any"]:
    """Return shift t / (1 + (shift - 1) t), which spends more of the time axis near noise; 0 and 1 stay.

    Source: SD3, arXiv:2403.03206, eq. 23; shift 3 for SD3, 5 for Wan and HunyuanVideo.
    """
    return shift * t / (1 + (shift - 1) * t)


def flow_grid(steps: int, shift: float, num_levels: int = 1000) -> Float[Tensor, " points"]:
    """Return diffusers' own steps + 1 times for rectified flow, noisiest first: 1, ..., shift'(shift'(1/1000)), 0.

    Equal, bit for bit, to `FlowMatchEulerDiscreteScheduler(shift=shift).set_timesteps(steps).sigmas`, and so with the
    peculiarity that its smallest sigma is shifted twice: the last times of `flow_grid(10, 3)` are .278, .0089, 0, and
    those of `flow_grid(10, 1)` .112, .001, 0. The last step is thus nearly nothing. Compare `linear_grid`.
    """
    smallest = time_shift(torch.tensor([1.0]) / num_levels, shift).item()
    # numpy's linspace(num_levels, smallest * num_levels, steps), operation by operation.
    stride = (smallest * num_levels - num_levels) / max(steps - 1, 1)
    timesteps = torch.arange(steps, dtype=torch.float64) * stride + num_levels
    if steps > 1:
        timesteps[-1] = smallest * num_levels
    return torch.cat([time_shift(timesteps / num_levels, shift).float(), torch.zeros(1)])


def linear_grid(steps: int, shift: float) -> Float[Tensor, " points"]:
    """Return time_shift(linspace(1, 0, steps + 1)), noisiest first: the grid of DanceGRPO and MixGRPO.

    Source: DanceGRPO, arXiv:2505.07818, published code. The last step is long, .25 to 0 for 10 steps at shift 3.
    """
    return time_shift(torch.linspace(1, 0, steps + 1), shift)


def window(start: Int[Tensor, " batch"], size: int, num_steps: int) -> Bool[Tensor, "batch {num_steps}"]:
    """Return the mask of stochastic decisions, start <= i < start + size, one row per sample.

    The caller draws `start` from (seed, step, group), so that all samples of a group share their window.
    Raises ValueError if some window is empty or does not fit into num_steps.
    """
    if size < 1 or bool((start < 0).any()) or bool((start + size > num_steps).any()):
        raise ValueError(f"a window of {size} from {start.tolist()} is empty or leaves the {num_steps} steps")
    index = torch.arange(num_steps, device=start.device)
    return (index >= start[:, None]) & (index < start[:, None] + size)


def sliding_start(
    iteration: int, low: int, high: int, stride: int, every: int, kind: Literal["progressive", "decay", "exp_decay"]
) -> int:
    """Return where the window starts in `iteration`, when it slides from `low` to `high` and then begins again.

    It stays M iterations at a start l and then moves by `stride`:

        progressive   M = every
        decay         M = max(1, floor(every (1 - l / high) + l / high))
        exp_decay     M = ceil(every exp(-0.1 max(0, l - 13)))

    Source: MixGRPO, arXiv:2507.21802, and its published code (`grpo_states.py`). Deviation: a window never reaches over
    the last start, where the code's becomes shorter.
    """
    starts = range(low, high + 1, stride)
    stays = []
    for start in starts:
        share = start / high if high else 0.0
        match kind:
            case "progressive":
                stays.append(every)
            case "decay":
                stays.append(max(1, math.floor(every * (1 - share) + share)))
            case "exp_decay":
                stays.append(math.ceil(every * math.exp(-0.1 * max(0, start - 13))))
            case _:
                assert_never(kind)
    place = iteration % sum(stays)
    for start, stay in zip(starts, stays, strict=True):
        if place < stay:
            return start
        place -= stay
    raise AssertionError("the stays of a cycle add up to its length")


def logit_normal(u: Float[Tensor, "*any"], mean: float = 0.0, std: float = 1.0) -> Float[Tensor, "*any"]:
    """Return sigmoid(mean + std Phi^-1(u)): training times that dwell in the middle, from uniform u in (0, 1).

    Source: SD3, arXiv:2403.03206, eq. 19; SD3 trains with mean 0, std 1. A larger mean trains noisier times.
    """
    return torch.sigmoid(mean + std * torch.special.ndtri(u))


def logit_normal_cdf(t: float, mean: float = 0.0, std: float = 1.0) -> float:
    """Return the probability that a logit-normal time is below t, the inverse of `logit_normal`; 0 for t <= 0."""
    if not 0 < t < 1:
        return float(t >= 1)
    return 0.5 * math.erfc((mean - math.log(t / (1 - t))) / (std * math.sqrt(2)))
