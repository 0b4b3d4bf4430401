"""What `limner bench scenes` compares: for each kind of generator a recipe, and the entries that vary it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from limner.recipes.presets import PRESETS

Entries: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The keys of each entry, by its name."""
STUDENT = "runs/distill-scenes"
"""Where `limner distill scenes` leaves the network of few steps, and is run if it has not been."""


@dataclass(frozen=True)
class Kind:
    """A kind of generator: what is compared on it."""

    name: str
    """Of its tables, and in the names of its runs."""
    recipe: str
    entries: Entries
    closer: tuple[str, ...]
    """Entries of three seeds: those that came out best with one, and the best-known methods. The others have one."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Of all its entries, over the recipe's."""


FLOW = {"sampler.dynamics": "FlowSDE", "sampler.dynamics.noise_level": 0.7}
WINDOW = {"sampler.window": 3, "sampler.window_range": (0, 4)}
TREE = {"sampler.splits": (0, 1, 2, 3), "group_size": 16, "prompts_per_step": 9}
LATE = {"algorithm.num_times": 3, "algorithm.min_time": 0.5, "sampler.dynamics": "DPMSolver"}  # as the recipe does
DEPTH = {"algorithm.scale": "depth", "algorithm.ddof": 1, "algorithm.epsilon": 1e-8}
UNET = {
    "model.kind": "sd",
    "model.path": "scenes_sd",
    "sampler.dynamics": "DDIM",
    "sampler.dynamics.eta": 1.0,
    "sampler.steps": 10,
    "sampler.grid": "own",
}
NOISY = {"algorithm.num_times": 3, "algorithm.min_time": 0.35}  # more noise than picture, as at .5 on the flow's line
PAIRED = {"algorithm.noising.num_times": 3, "algorithm.noising.min_time": 0.5}  # as the recipe has its times
GIVEN = {**PAIRED, "source": "Preferences", "prompts": "", "reward": "", "prompts_per_step": 72, "group_size": 2}
WITHIN = "0.5 * {0}(scenes) + 0.5 * {0}(scenes.fraction)"
DENOISERS: Entries = {
    "DiffusionNFT, on policy": {"algorithm.decay": "none"},
    "Flow-GRPO": {"algorithm": "FlowGRPO", **FLOW, **WINDOW},
    "Flow-GRPO, published": PRESETS["flow_grpo"].keys,
    "Flow-GRPO, published, lr 1e-3": {**PRESETS["flow_grpo"].keys, "optimizer.lr": 1e-3},
    "Flow-GRPO, published, lr 3e-3": {**PRESETS["flow_grpo"].keys, "optimizer.lr": 3e-3},
    "Flow-GRPO-Fast": PRESETS["flow_grpo_fast"].keys,
    "Flow-CPS": {**PRESETS["flow_cps"].keys, "algorithm.ratio": "log_ratio"},
    "DanceGRPO": PRESETS["dance_grpo"].keys,
    "MixGRPO": PRESETS["mix_grpo"].keys,
    "Dr.GRPO": {**PRESETS["dr_grpo"].keys, **FLOW, **WINDOW},
    "GDPO": {**PRESETS["gdpo"].keys, "reward": WITHIN.format("group"), **FLOW, **WINDOW},
    "Pref-GRPO": {**PRESETS["pref_grpo"].keys, "reward": WITHIN.format("rank"), **FLOW, **WINDOW},
    "BranchGRPO": {"algorithm": "FlowGRPO", **DEPTH, **FLOW, **TREE},
    "TempFlow-GRPO": PRESETS["temp_flow_grpo"].keys,
    "GRPO-Guard": {"algorithm": "GRPOGuard", **FLOW, **WINDOW},
    "Flow-DPPO": {"algorithm": "FlowDPPO", **FLOW, **WINDOW},
    "REINFORCE": {**PRESETS["reinforce"].keys, **FLOW, **WINDOW},
    "DDPO": {"algorithm": "DDPO", "algorithm.num_updates": 2, **FLOW, **WINDOW},
    "DPOK": {**PRESETS["dpok"].keys, **FLOW},
    "PPO": {"algorithm": "PPO", **FLOW},
    "TRPO": {"algorithm": "TRPO", **FLOW, **WINDOW},
    "DiffusionNFT, published": {
        "algorithm": "DiffusionNFT",
        "algorithm.decay": "linear",
        "algorithm.kl_weight": 1e-4,
        "algorithm.num_times": 9,
        "algorithm.min_time": 0.0,
        "sampler.grid": "own",
        "optimizer.lr": 3e-4,
    },
    "AWM, published times": {
        "algorithm": "AWM",
        "algorithm.times": "shifted_logit_normal",
        "algorithm.min_time": 0.01,
    },
    "AWM, all times": {"algorithm": "AWM"},
    "AWM": {"algorithm": "AWM", **LATE},
    "ELBO": {**PRESETS["elbo"].keys, **LATE},
    "DGPO": {"algorithm": "DGPO", **LATE},
    "RWR": {**PRESETS["rwr"].keys, **LATE},
    "RWR, temperature 5": {**PRESETS["rwr"].keys, **LATE, "algorithm.temperature": 5.0},
    "RWR, lr 3e-4": {**PRESETS["rwr"].keys, **LATE, "optimizer.lr": 3e-4},
    "RAFT": {**PRESETS["raft"].keys, **LATE},
    "DPO": {"algorithm": "DPO", "algorithm.beta": 20.0, **GIVEN},
    "DPO, online": {"algorithm": "DPO", "algorithm.beta": 20.0, **PAIRED},
    "IPO": {"algorithm": "DPO", "algorithm.loss": "ipo", "algorithm.beta": 20.0, **GIVEN},
    "KTO": {"algorithm": "KTO", "algorithm.beta": 10.0, **GIVEN, "source.unpair": True},
    "MaPO": {"algorithm": "MaPO", "algorithm.margin_scale": 40.0, **GIVEN},
    "SPO": PRESETS["spo"].keys,
    "UNet: DDPO": {"algorithm": "DDPO", "algorithm.num_updates": 2, **UNET, **WINDOW},
    "UNet: DDPO, all steps": {"algorithm": "DDPO", "algorithm.num_updates": 2, **UNET},
    "UNet: REINFORCE": {**PRESETS["reinforce"].keys, **UNET, **WINDOW},
    "UNet: DPOK": {**PRESETS["dpok"].keys, **UNET},
    "UNet: PPO": {"algorithm": "PPO", **UNET},
    "UNet: Flow-GRPO": {"algorithm": "FlowGRPO", **UNET, **WINDOW},
    "UNet: DiffusionNFT, on policy": {**UNET, **NOISY, "algorithm.decay": "none"},
    "UNet: AWM": {"algorithm": "AWM", **UNET, **NOISY},
    "UNet: RWR": {**PRESETS["rwr"].keys, **UNET, **NOISY},
}
CLOSER = (
    "DPO", "DPO, online",
    "DiffusionNFT, on policy", "AWM", "ELBO", "Flow-GRPO-Fast", "DGPO", "GRPO-Guard", "Flow-GRPO", "Flow-DPPO",
    "UNet: DiffusionNFT, on policy", "UNet: AWM", "AWM, published times", "DDPO", "DanceGRPO",
    "DiffusionNFT, published", "Flow-GRPO, published", "Flow-GRPO, published, lr 1e-3", "Flow-GRPO, published, lr 3e-3",
)  # fmt: skip

RATIO = {"algorithm.clip_low": 0.2, "algorithm.clip_high": 0.2, "algorithm.clip_elements": 1}  # of one choice
CHOICES: Entries = {
    "Flow-GRPO": {},
    "Dr.GRPO": {"algorithm.scale": "none"},
    "REINFORCE": {"algorithm": "DDPO", "algorithm.surrogate": "score"},
    "DDPO": {"algorithm": "DDPO", "algorithm.num_updates": 2, **RATIO},
    "PPO": {"algorithm": "PPO", **RATIO},
    "GRPO-Guard": {"algorithm": "GRPOGuard", "algorithm.num_updates": 2, **RATIO},
    "D3PO": {"algorithm": "D3PO"},
    "Flow-GRPO, GCPO's critical tokens": {"focus": "Critical"},
    "Flow-GRPO, STAGE's unlike tokens": {"focus": "Unlike"},
}
LED: Entries = {
    "SurrogateGradient": {},
    "Flow-GRPO": {"algorithm": "FlowGRPO", "algorithm.num_updates": 2, **RATIO},
    "REINFORCE": {"algorithm": "DDPO", "algorithm.surrogate": "score"},
    "D3PO": {"algorithm": "D3PO"},
    "Flow-GRPO, noise on what comes out": {
        "algorithm": "FlowGRPO",
        "algorithm.num_updates": 2,
        **RATIO,
        "model.settings.learns": "output",
        "sampler.chance": "output",
        "sampler.noise": 0.3,
    },
}
FEW = {
    "model.kind": "sd3",
    "model.path": f"{STUDENT}/pipeline",
    "sampler.dynamics": "CPS",
    "sampler.dynamics.noise_level": 1.0,
    "sampler.steps": 4,
    "evaluation.guidance": 1.0,
}
SHORT: Entries = {
    "Flow-GRPO": {"algorithm": "FlowGRPO", "algorithm.num_updates": 2, "optimizer.lr": 3e-4},
    "PSO": {"algorithm": "D3PO", "algorithm.beta": 50.0, "optimizer.lr": 1e-3},
    "PSO, anchored (DMDR)": {
        "algorithm": "D3PO",
        "algorithm.beta": 50.0,
        "optimizer.lr": 1e-3,
        "anchor.data": f"{STUDENT}/chains.pt",
        "anchor.weight": 0.1,
    },
    "DiffusionNFT": {"algorithm.num_times": 3, "algorithm.min_time": 0.0, "algorithm.decay": "none"},
    "AWM": {"algorithm": "AWM", "algorithm.num_times": 3, "algorithm.min_time": 0.0},
}
KINDS = {
    "denoisers": Kind("scenes", "scenes", DENOISERS, CLOSER),
    "tokens": Kind("scenes_tokens", "scenes_tokens", CHOICES, ("Flow-GRPO",), {"focus": "Everywhere"}),
    "one_step": Kind("scenes_one_step", "scenes_gan", LED, ("SurrogateGradient",)),
    "few_steps": Kind("scenes_few_steps", "scenes", SHORT, ("PSO",), FEW),
}
