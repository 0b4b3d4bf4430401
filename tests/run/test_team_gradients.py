"""The gradients of an optimizer step, and the rewards, that two processes share are one process's.

Three groups in two processes, one beside two, and of one group a sample that cannot be judged.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.algorithms.ddpo import DDPO
from limner.algorithms.dgpo import DGPO
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.dpo import DPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.diffusion.dynamics import FlowSDE
from limner.policies.denoising import Sampler
from limner.training.config import Optimizer, RunConfig
from run.miniature import Miniature
from run.test_team import PICKY
from run.wide import Seen, in_team, iteration, widened

PATHS: dict[str, Any] = {"sampler": Sampler(FlowSDE(), steps=4)}
LOSSES: dict[str, dict[str, Any]] = {
    "FlowGRPO": {"algorithm": FlowGRPO(kl_weight=0.01, num_updates=1), **PATHS},
    "DDPO": {"algorithm": DDPO(min_count=2, num_updates=1), **PATHS},
    "DPO": {"algorithm": DPO(num_updates=1)},
    "DiffusionNFT": {"algorithm": DiffusionNFT(num_times=2)},
    "DGPO": {"algorithm": DGPO(num_updates=1)},
}


def configs(miniature: Miniature, folder: Path) -> dict[str, RunConfig]:
    """Return a run of each loss, as it is and in float64."""
    (folder / "picky.py").write_text(PICKY)
    found = {}
    for name, changes in LOSSES.items():
        changes = {"prompts_per_step": 3, "micro_batch": 4, "optimizer": Optimizer(max_grad_norm=1e9), **changes}
        plain = replace(miniature.config(folder / "unused", **changes), reward=f"{folder / 'picky.py'}:picky")
        found |= {f"{name} float32": plain, f"{name} float64": widened(plain)}
    return found


@pytest.fixture(scope="module")
def seen(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Seen, Seen, Seen]]:
    """Return of each run what one process alone saw, and what each of two did."""
    folder = tmp_path_factory.mktemp("team")
    runs = configs(miniature, folder)
    first, second = in_team(list(runs.values()), folder)
    return {name: (iteration(run), *pair) for (name, run), *pair in zip(runs.items(), first, second, strict=True)}


def apart(mine: Tensor, other: Tensor) -> float:
    """Return what parts two gradients, by their norms."""
    return float((mine - other).norm() / other.norm())


@pytest.mark.parametrize("dtype, most", [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_have_the_gradient_of_one(name: str, dtype: str, most: float, seen: Any) -> None:
    alone, *pair = seen[f"{name} {dtype}"]
    assert [each.mine for each in pair] == [4, 8] and sorted(each.invalid for each in pair) == [0, 1]
    assert alone.mine == 12 and alone.invalid == 1
    whole = torch.cat([each.flatten() for each in alone.gradients.values()])
    assert whole.dtype == getattr(torch, dtype) and whole.norm() > 0
    for each in pair:
        assert each.rewards == pytest.approx(alone.rewards, rel=most)
        assert each.gradients.keys() == alone.gradients.keys()
        assert apart(torch.cat([each.gradients[place].flatten() for place in alone.gradients]), whole) < most
