"""A run on an accelerator, from its first check to its export, is the run on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import limner.run
from golden.curves import ORACLES, curve, oracle_config
from limner.algorithms.ddpo import DDPO
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.diffusion.dynamics import DDIM, EulerODE, FlowSDE
from limner.models.quiet import no_bars
from limner.models.sd import SD
from limner.policies.denoising import Sampler
from limner.report.metrics import read
from limner.training.config import DataAnchor, Evaluation, Full, Lora, Model, Optimizer, Precision, RunConfig
from pretended_cuda import pretended_cuda
from run.miniature import Miniature

MEASURED = Evaluation(seeds=1, ode_steps=2, guidance=2.0, every=1)


@pytest.mark.parametrize("name", ORACLES)
def test_every_algorithm_learns_there_as_on_the_cpu(name: str) -> None:
    config = replace(oracle_config(name), steps=2, prompts_per_step=2, micro_batch=20)
    expected = curve(config)
    with pretended_cuda():
        found = curve(replace(config, device="cuda"))
    require_equal([found], [expected])


def changes(kind: str, miniature: Miniature, folder: Path) -> dict[str, Any]:
    """Return what makes a run of a kind: they differ in all that may stay behind on the CPU."""
    match kind:
        case "lora":
            data = str(folder)
            made = {"algorithm": DiffusionNFT(num_times=2, decay_rate=0.2), "overlap": True}
            return made | {"optimizer": Optimizer(ema=0.5), "anchor": DataAnchor("scenes", 0.1, 4, 8), "name": data}
        case "full":
            made = {"algorithm": FlowGRPO(kl_weight=0.01), "reward": miniature.reward("sometimes")}
            sampler = Sampler(FlowSDE(), 4, window=1, window_range=(0, 2), guidance=1.5)
            return made | {"sampler": sampler, "model": replace(Model("sd3", str(miniature.model), 0), train=Full())}
        case "bfloat16":
            made = {"algorithm": DiffusionNFT(num_times=2), "sampler": Sampler(EulerODE(), 4)}
            return made | {"precision": Precision("bfloat16", activation_checkpointing=True)}
        case _:
            with no_bars():
                SD.tiny("sdxl", folder / "model")
            model = Model("sd", str(folder / "model"), None, Lora(2, 4))
            return {"algorithm": DDPO(num_updates=2), "sampler": Sampler(DDIM(), 4), "model": model}
