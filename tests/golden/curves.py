"""Ten iterations of every algorithm on the oracle, and two of each on the scenes bases: what the log says of each.

Settings are keys of the configuration as text, so that these runs stay what they are while the code behind them moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.build import assemble
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.training.config import RunConfig
from limner.training.loop import Hooks, train
from limner.training.state import State

Curve = dict[str, list[float]]

SDE = {"sampler.dynamics": "FlowSDE"}
ODE = {"sampler.dynamics": "EulerODE"}
GIVEN = {"source": "limner.bench.annotated:Annotated", "source.annotator.of": "o2"}
ORACLES: dict[str, Mapping[str, Any]] = {
    "Flow-GRPO": {"algorithm": "FlowGRPO", **SDE},
    "Flow-GRPO, penalty": {"algorithm": "FlowGRPO", "algorithm.scale": "none", "algorithm.kl_weight": 0.3, **SDE},
    "Flow-GRPO, penalty by time, noise weight": {
        "algorithm": "FlowGRPO", "algorithm.kl_weight": 0.3, "algorithm.kl_by_time": True,
        "algorithm.noise_weight": True, "algorithm.trim": 0.25, **SDE,
    },
    "Flow-GRPO, window": {"algorithm": "FlowGRPO", "sampler.window": 3, "sampler.window_range": (0, 4), **SDE},
    "MixGRPO": {
        "algorithm": "FlowGRPO", "sampler.window": 2, "sampler.window_range": (0, 5), "sampler.window_every": 3,
        "sampler.window_schedule": "progressive", "sampler.shared_start": True, "sampler.dynamics": "DanceSDE",
    },
    "BranchGRPO": {
        "algorithm": "FlowGRPO", "algorithm.scale": "depth", "algorithm.ddof": 1, "sampler.splits": (0, 2, 4),
        "sampler.dynamics": "CPS",
    },
    "REINFORCE": {"algorithm": "DDPO", "algorithm.surrogate": "score", **SDE},
    "DDPO": {"algorithm": "DDPO", "algorithm.num_updates": 2, "model.path": "o2-noise", "sampler.dynamics": "DDIM"},
    "PPO": {"algorithm": "PPO", **SDE},
    "DPOK": {
        "algorithm": "PPO", "algorithm.surrogate": "clip", "algorithm.decay": 1.0, "algorithm.normalise": False,
        "algorithm.kl_weight": 0.3, **SDE,
    },
    "TRPO": {"algorithm": "TRPO", **SDE},
    "GRPO-Guard": {"algorithm": "GRPOGuard", **SDE},
    "Flow-DPPO": {"algorithm": "FlowDPPO", **SDE},
    "DiffusionNFT, on policy": {
        "algorithm": "DiffusionNFT", "algorithm.decay": "none", "algorithm.kl_weight": 0.0, **ODE
    },
    "DiffusionNFT": {"algorithm": "DiffusionNFT", "algorithm.decay_rate": 0.02, "algorithm.num_updates": 2, **ODE},
    "DGPO": {"algorithm": "DGPO", **ODE},
    "AWM": {"algorithm": "AWM", "algorithm.num_updates": 2, "sampler.dynamics": "DPMSolver"},
    "ELBO": {"algorithm": "AWM", "algorithm.weighting": "uniform", "algorithm.kl_weight": 0.0, **ODE},
    "RWR": {"algorithm": "RewardWeighted", "algorithm.temperature": 1.0, "algorithm.kl_weight": 0.1, **ODE},
    "RAFT": {"algorithm": "RewardWeighted", "algorithm.weight": "best", **ODE},
    "DPO": {"algorithm": "DPO", "algorithm.beta": 4.0, **GIVEN, **ODE},
    "DPO, online": {"algorithm": "DPO", "algorithm.beta": 4.0, "algorithm.refresh": 3, **ODE},
    "IPO": {"algorithm": "DPO", "algorithm.beta": 0.5, "algorithm.loss": "ipo", **GIVEN, **ODE},
    "CaPO": {
        "algorithm": "DPO", "algorithm.beta": 4.0, "algorithm.loss": "calibrated", "algorithm.pair": "fronts", **ODE
    },
    "KTO": {"algorithm": "KTO", "algorithm.beta": 8.0, "algorithm.num_updates": 2, **GIVEN, **ODE},
    "DSPO": {"algorithm": "DSPO", "algorithm.beta": 0.3, **GIVEN, **ODE},
    "MaPO": {"algorithm": "MaPO", "algorithm.margin_scale": 4.0, **GIVEN, **ODE},
    "D3PO": {"algorithm": "D3PO", "algorithm.beta": 1.0, "algorithm.clip": 0.5, **SDE},
    "SPO": {
        "algorithm": "D3PO", "algorithm.beta": 10.0, "algorithm.clip": 0.5, "sampler.window": 1,
        "sampler.window_range": (0, 5), "sampler.shared_start": True, **SDE,
    },
}  # fmt: skip
SMALL = {"prompts_per_step": 2, "group_size": 4, "micro_batch": 6, "steps": 2, "evaluation.every": 0}
UNET = {
    "model.kind": "sd", "model.path": "scenes_sd", "sampler.dynamics": "DDIM", "sampler.grid": "own",
}  # fmt: skip
SCENES: dict[str, Mapping[str, Any]] = {
    "recipe": {},
    "Flow-GRPO": {"algorithm": "FlowGRPO", "sampler.window": 3, "sampler.window_range": (0, 2), **SDE},
    "DiffusionNFT, full, old": {
        "algorithm.decay": "linear", "algorithm.kl_weight": 1e-4, "model.train": "Full", "optimizer.lr": 1e-4
    },
    "guided": {
        "algorithm": "AWM", "sampler.guidance": 2.0, "algorithm.kl_weight": 0.1,
        "reward": "0.5 * rank(scenes) + 0.5 * rank(scenes.fraction)",
    },
    "UNet": {"algorithm": "DDPO", "algorithm.num_updates": 2, **UNET},
}  # fmt: skip


def oracle(name: str) -> Curve:
    """Return what ten iterations log of an entry of ORACLES."""
    return curve(oracle_config(name))


def oracle_config(name: str) -> RunConfig:
    """Return the run of an entry of ORACLES, on o2."""
    config = RunConfig(name="golden", prompts="oracle:train", reward="o2", steps=10, prompts_per_step=3, group_size=8)
    model = {"model.kind": "limner.worlds.oracle.model:OracleSettings", "model.path": "o2", "model.train": "Full"}
    sizes = {"micro_batch": 50, "sampler.steps": 8, "optimizer.lr": 1e-2, "device": "cpu", "seed": 1}
    return override(config, {**model, **sizes, **ORACLES[name]})


def scenes(name: str) -> Curve:
    """Return what two iterations log of an entry of SCENES, on the scenes world."""
    config = override(recipe("scenes"), {**SMALL, "sampler.steps": 6, "device": "cpu"})
    return curve(override(config, SCENES[name]))


def curve(config: RunConfig) -> Curve:
    """Return what a run logs, but for its times, by name."""
    log = Log()
    train(config, assemble(config).parts, State(), Hooks(log, log, lambda state: None, lambda state: {}))
    return log.curve


class Log:
    """A progress line that nobody sees, and metrics that are kept."""

    def __init__(self) -> None:
        self.curve: Curve = {}

    def phase(self, name: str) -> None: ...

    def step(self, done: int, mean: float, std: float) -> None: ...

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            if not name.startswith("seconds/"):
                self.curve.setdefault(name, []).append(float(f"{value:.7g}"))
