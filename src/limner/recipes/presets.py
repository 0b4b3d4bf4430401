"""Published methods that are settings of an algorithm we have: keys to put into any recipe, `--preset NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from limner.core.errors import UserError, nearest
from limner.recipes.override import override
from limner.rewards.algebra.functions import Function, Group, Rank
from limner.rewards.algebra.parse import parse
from limner.rewards.algebra.within import within_groups
from limner.training.config import RunConfig

FLUX_720 = 16 * 90 * 90
"""Elements of FLUX's latent at 720 x 720 pixels, for which DanceGRPO's code and its heirs' give their clip ranges."""

WINDOW = ("window", "window_range", "window_schedule", "window_stride", "window_every", "shared_start", "splits")
"""A sampler's keys that say which of its steps are decisions, and of whom."""


@dataclass(frozen=True)
class Preset:
    """What a published method is, with its source, and the keys that make it."""

    about: str
    keys: Mapping[str, Any]
    within: type[Function] | None = None
    """By what each term of the run's reward is compared within its group; None: the reward stays what it is."""


FLOW_GRPO: Mapping[str, Any] = {
    "algorithm": "FlowGRPO",
    "algorithm.scale": "batch",
    "algorithm.kl_weight": 0.04,
    "algorithm.kl_by_time": "true",
    "algorithm.num_updates": 2,
    "sampler.dynamics": "FlowSDE",
    "sampler.dynamics.noise_level": 0.7,
    "sampler.steps": 10,
    "sampler.grid": "own",
    "optimizer.lr": 3e-4,
}

PRESETS: Mapping[str, Preset] = {
    "flow_grpo": Preset(
        "Flow-GRPO, arXiv:2505.05470, config of its code for SD3: std over the whole iteration",
        FLOW_GRPO,
    ),
    "flow_grpo_sd3": Preset(
        "Flow-GRPO as its code trains Stable Diffusion 3.5: guidance 4.5, groups of 24, 512 x 512 pixels",
        {
            **FLOW_GRPO,
            "sampler.guidance": 4.5,
            "group_size": 24,
            "prompts_per_step": 48,
            "model.settings.resolution": 512,
        },
    ),
    "flow_grpo_fast": Preset(
        "Flow-GRPO-Fast: a window of two decisions in the first half, without penalty, at a tenth of the clip range",
        {
            "algorithm": "FlowGRPO",
            "algorithm.scale": "batch",
            "algorithm.clip_low": 1e-5,
            "algorithm.clip_high": 1e-5,
            "sampler.dynamics": "FlowSDE",
            "sampler.dynamics.noise_level": 0.8,
            "sampler.steps": 10,
            "sampler.grid": "own",
            "sampler.window": 2,
            "sampler.window_range": (0, 3),
        },
    ),
    "dance_grpo": Preset(
        "DanceGRPO, arXiv:2505.07818: constant noise, the group's sample std, no penalty",
        {
            "algorithm": "FlowGRPO",
            "algorithm.clip_elements": FLUX_720,
            "algorithm.ddof": 1,
            "algorithm.epsilon": 1e-8,
            "sampler.dynamics": "DanceSDE",
            "sampler.dynamics.eta": 0.3,
            "sampler.steps": 16,
            "sampler.grid": "linear",
            "sampler.shared_start": "true",
        },
    ),
    "flow_cps": Preset(
        "Flow-CPS, arXiv:2509.05952: noise that keeps the coefficients",
        {
            "algorithm": "FlowGRPO",
            "algorithm.scale": "batch",
            "algorithm.ratio": "distance",
            "sampler.dynamics": "CPS",
            "sampler.dynamics.noise_level": 0.8,
            "sampler.steps": 10,
            "sampler.grid": "own",
        },
    ),
    "mix_grpo": Preset(
        "MixGRPO, arXiv:2507.21802: a window of four steps that slides from noise to data, 25 iterations at each",
        {
            "algorithm": "FlowGRPO",
            "algorithm.clip_elements": FLUX_720,
            "algorithm.ddof": 1,
            "algorithm.epsilon": 1e-8,
            "sampler.dynamics": "FlowSDE",
            "sampler.dynamics.noise_level": 0.7,
            "sampler.steps": 25,
            "sampler.grid": "linear",
            "sampler.window": 4,
            "sampler.window_range": (0, 19),
            "sampler.window_schedule": "progressive",
            "sampler.shared_start": "true",
        },
    ),
    "temp_flow_grpo": Preset(
        "TempFlow-GRPO, arXiv:2508.04324: samples of a group branch at one step, weighted by its noise",
        {
            "algorithm": "FlowGRPO",
            "algorithm.noise_weight": "true",
            "algorithm.kl_weight": 4e-3,
            "algorithm.num_updates": 2,
            "sampler.dynamics": "FlowSDE",
            "sampler.dynamics.noise_level": 0.7,
            "sampler.steps": 10,
            "sampler.grid": "own",
            "sampler.window": 1,
            "sampler.window_range": (0, 8),
            "sampler.shared_start": "true",
        },
    ),
    "branch_grpo": Preset(
        "BranchGRPO, arXiv:2509.06040: samples are the leaves of a tree, decisions compared at each of its depths",
        {
            "algorithm": "FlowGRPO",
            "algorithm.scale": "depth",
            "algorithm.clip_elements": FLUX_720,
            "algorithm.ddof": 1,
            "algorithm.epsilon": 1e-8,
            "algorithm.clip_low": 1e-3,
            "algorithm.clip_high": 1e-3,
            "sampler.dynamics": "DanceSDE",
            "sampler.dynamics.eta": 0.3,
            "sampler.steps": 20,
            "sampler.grid": "linear",
            "sampler.splits": (0, 3, 6, 9),
            "sampler.window": 0,
            "sampler.shared_start": "false",
            "group_size": 16,
        },
    ),
    "dr_grpo": Preset(
        "Dr.GRPO, arXiv:2503.20783: no std at all",
        {"algorithm": "FlowGRPO", "algorithm.scale": "none", "sampler.dynamics": "FlowSDE"},
    ),
    "gdpo": Preset(
        "GDPO, arXiv:2601.05242: each reward is normalised within its group, and then their sum over the batch",
        {
            "algorithm": "FlowGRPO",
            "algorithm.scale": "batch",
            "algorithm.ddof": 1,
            "sampler.dynamics": "FlowSDE",
        },
        within=Group,
    ),
    "pref_grpo": Preset(
        "Pref-GRPO, arXiv:2508.20751: a sample's reward is the share of its group that it beats",
        {"algorithm": "FlowGRPO", "sampler.dynamics": "FlowSDE"},
        within=Rank,
    ),
    "reinforce": Preset(
        "DDPO-SF, arXiv:2305.13301: the score function estimator, which is REINFORCE",
        {"algorithm": "DDPO", "algorithm.surrogate": "score", "sampler.dynamics": "FlowSDE"},
    ),
    "dpok": Preset(
        "DPOK, arXiv:2305.16381, its code: weight .01 of the penalty to 100 of the reward",
        {
            "algorithm": "PPO",
            "algorithm.surrogate": "clip",
            "algorithm.decay": 1.0,
            "algorithm.normalise": "false",
            "algorithm.kl_weight": 1e-4,
            "algorithm.clip_elements": 16_384,
            "sampler.dynamics": "FlowSDE",
        },
    ),
    "diffusion_nft": Preset(
        "DiffusionNFT, arXiv:2509.16117, its code for SD3: std over the whole iteration, an old policy that follows",
        {
            "algorithm": "DiffusionNFT",
            "algorithm.beta": 1.0,
            "algorithm.scale": "batch",
            "algorithm.kl_weight": 1e-4,
            "algorithm.num_times": 9,
            "algorithm.times": "grid",
            "algorithm.min_time": 0.0,
            "algorithm.decay": "linear",
            "algorithm.decay_rate": 0.001,
            "algorithm.decay_max": 0.5,
            "algorithm.decay_by": "update",
            "algorithm.neutral": "true",
            "sampler.dynamics": "DPMSolver",
            "sampler.steps": 10,
            "sampler.grid": "own",
            "optimizer.lr": 3e-4,
        },
    ),
    "awm": Preset(
        "AWM, arXiv:2509.25050, its code for SD3: logit-normal times shifted by 3; without its second penalty",
        {
            "algorithm": "AWM",
            "algorithm.times": "shifted_logit_normal",
            "algorithm.min_time": 0.01,
            "sampler.dynamics": "EulerODE",
            "sampler.steps": 14,
            "optimizer.lr": 3e-4,
        },
    ),
    "elbo": Preset(
        "The policy gradient of the evidence lower bound of the final sample",
        {
            "algorithm": "AWM",
            "algorithm.weighting": "uniform",
            "algorithm.kl_weight": 0.0,
            "sampler.dynamics": "EulerODE",
        },
    ),
    "diffusion_dpo": Preset(
        "Diffusion-DPO, arXiv:2311.12908, its code for SD 1.5 and SDXL: beta 5,000 on errors of the noise",
        {
            "algorithm": "DPO",
            "algorithm.beta": 5000.0,
            "algorithm.noising.error": "noise",
            "sampler.dynamics": "EulerODE",
        },
    ),
    "flow_dpo": Preset(
        "Flow-DPO, arXiv:2501.13918, as in Flow-GRPO's code: beta 100 on errors of the velocity, the same at any time",
        {"algorithm": "DPO", "algorithm.beta": 100.0, "sampler.dynamics": "EulerODE"},
    ),
    "dense_dpo": Preset(
        "DenseDPO, arXiv:2506.03517: clips whose segments were judged; beta 500 without Diffusion-DPO's 1/2, on errors "
        "that are means here (the paper does not say which norm its code has)",
        {"algorithm": "DPO", "algorithm.beta": 1000.0, "source": "Preferences", "sampler.dynamics": "EulerODE"},
    ),
    "online_dpo": Preset(
        "Online DPO of Flow-GRPO's code: best against worst of 24 drawn samples, a new reference every 40 iterations",
        {
            "algorithm": "DPO",
            "algorithm.beta": 100.0,
            "algorithm.refresh": 40,
            "source": "Drawn",
            "group_size": 24,
            "sampler.dynamics": "EulerODE",
        },
    ),
    "ipo": Preset(
        "IPO, arXiv:2310.12036, as in diffusers' DPO example: implicit rewards are to differ by so much and no more",
        {"algorithm": "DPO", "algorithm.loss": "ipo", "algorithm.beta": 100.0, "sampler.dynamics": "EulerODE"},
    ),
    "slic": Preset(
        "SLiC's hinge, arXiv:2305.10425, as diffusers' DPO example has it",
        {"algorithm": "DPO", "algorithm.loss": "hinge", "algorithm.beta": 100.0, "sampler.dynamics": "EulerODE"},
    ),
    "capo": Preset(
        "CaPO, arXiv:2502.02588: pairs of the first and last front of several rewards, and their calibrated difference",
        {
            "algorithm": "DPO",
            "algorithm.loss": "calibrated",
            "algorithm.pair": "fronts",
            "source": "Drawn",
            "sampler.dynamics": "EulerODE",
        },
    ),
    "spo": Preset(
        "SPO, arXiv:2406.04314: pairs of steps from one state, here judged by the finished samples that they lead to",
        {
            "algorithm": "D3PO",
            "algorithm.beta": 10.0,
            "algorithm.clip": 0.1,
            "source": "Drawn",
            "sampler.dynamics": "FlowSDE",
            "sampler.window": 1,
            "sampler.window_range": (0, 3),
            "sampler.shared_start": "true",
        },
    ),
    "pso": Preset(
        "PSO, arXiv:2410.03190, its code for SDXL-Turbo: D3PO over the three decisions of four ancestral steps",
        {
            "algorithm": "D3PO",
            "algorithm.beta": 50.0,
            "algorithm.clip": 0.1,
            "source": "Drawn",
            "sampler.dynamics": "DDIM",
            "sampler.dynamics.eta": 1.0,
            "sampler.steps": 4,
            "sampler.grid": "own",
        },
    ),
    "rwr": Preset(
        "RWR as in DDPO, arXiv:2305.13301: the matching loss, weighted by the softmax of the reward",
        {"algorithm": "RewardWeighted", "algorithm.weight": "softmax", "sampler.dynamics": "EulerODE"},
    ),
    "raft": Preset(
        "RAFT, arXiv:2304.06767: the matching loss on the best of each group",
        {"algorithm": "RewardWeighted", "algorithm.weight": "best", "sampler.dynamics": "EulerODE"},
    ),
}


def preset(name: str) -> Preset:
    """Return a published method. Raises UserError for an unknown name."""
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}{nearest(name, PRESETS)}")
    return PRESETS[name]


def with_preset(config: RunConfig, name: str, values: Mapping[str, Any] | None = None) -> RunConfig:
    """Return a run by a published method: `config` with its keys and then `values`, and its way to compare rewards.

    Which steps are decisions is the method's to say: all are, where it says nothing, whatever `config` had.
    """
    method, given = preset(name), values or {}
    if "sampler" not in given:
        _require_sampler(config, name, method)
    changed = override(_every_step(config), {**method.keys, **given})
    if method.within is None or not changed.reward:
        return changed
    return replace(changed, reward=str(within_groups(parse(changed.reward), method.within)))


def _every_step(config: RunConfig) -> RunConfig:
    """Return a run whose sampler has no window of its own."""
    sampler = cast(Any, config.sampler)
    unset = {each.name: each.default for each in fields(sampler) if each.name in WINDOW}
    return replace(config, sampler=replace(sampler, **unset))


def _require_sampler(config: RunConfig, name: str, method: Preset) -> None:
    """Raise UserError if the method says how to draw in words that the run's sampler does not know."""
    known = {each.name for each in fields(cast(Any, config.sampler))}
    unknown = [key for key in method.keys if key.startswith("sampler.") and key.split(".")[1] not in known]
    if unknown:
        raise UserError(
            f"preset {name!r} sets {unknown[0]}, and the sampler here is {type(config.sampler).__name__}; name the "
            f"algorithm instead, --algorithm {method.keys['algorithm']}"
        )
