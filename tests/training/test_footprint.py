"""The prediction of a run's peak, by hand; tests/run/test_check.py compares it with what runs take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.core.errors import UserError
from limner.core.types import LatentSpec
from limner.diffusion.dynamics import FlowSDE
from limner.engine.memory import available_memory_mib, total_memory_mib
from limner.policies.denoising import Sampler
from limner.training.config import RunConfig
from limner.training.footprint import footprint, require_room

MIB = 2**20


@pytest.mark.parametrize(("stills", "samples"), [(0, 3.0), (MIB, 3.0), (5 * MIB, 5.0)])
def test_the_terms(stills: int, samples: float) -> None:
    """A dry run of 100 MiB with a quarter of the samples (1 MiB), and half a MiB of bfloat16 weights."""
    trained = [torch.zeros(MIB // 4, dtype=torch.bfloat16)]
    found = footprint(torch.device("cpu"), 100, trained, [torch.zeros(MIB // 4)], 3, stills)
    assert (found.dry_run, found.optimizer, found.samples) == (100, 2.0, samples)
    eight = footprint(torch.device("cpu"), 100, trained, [], 3, stills, moment_bytes=2.0)
    assert eight.optimizer == 0.5
    assert found.peak == 102 + samples and str(found).startswith(f"peak about {102 + samples:.0f} MiB (100 in this")


def test_on_an_accelerator_only_what_lives_there_counts() -> None:
    kept = [torch.zeros(MIB // 4), torch.zeros(MIB // 2, device="meta")]
    assert footprint(torch.device("meta"), 10, [], kept, 1, 0).samples == 2
    assert footprint(torch.device("cuda"), 10, [], kept, 1, 7 * MIB).samples == 0


def test_what_does_not_fit_is_refused() -> None:
    found = footprint(torch.device("cpu"), 100, [], [torch.zeros(MIB // 4)], 3, 0)
    found.require(103)
    with pytest.raises(UserError, match=r"memory: peak about 103 MiB .* there are 102 MiB: lower prompts_per_step"):
        found.require(102.5)


@pytest.mark.parametrize(("times", "updates", "mib"), [(4, 1, 20), (4, 2, 12), (0, 1, 4)])
def test_latents_alone_may_not_fit(times: int, updates: int, mib: int) -> None:
    """2 prompts of 8 samples of a quarter of a MiB each: 4 MiB drawn, and the times of an update as much again."""
    algorithm = DiffusionNFT(num_times=times, num_updates=updates) if times else FlowGRPO()
    config = RunConfig("x", algorithm=algorithm, sampler=Sampler(FlowSDE()), prompts_per_step=2, group_size=8)
    latent = LatentSpec((4, 128, 128), torch.float32, torch.device("cpu"))
    require_room(config, latent, mib)
    with pytest.raises(UserError, match=f"memory: the latents of the 16 samples .* take {mib} MiB at least"):
        require_room(config, latent, mib - 0.1)


def test_there_is_as_much_as_the_machine_has() -> None:
    known = Path("/proc/meminfo")
    if not known.exists():
        pytest.skip("no /proc/meminfo here")
    total = int(known.read_text().split()[1]) / 2**10  # MemTotal: N kB
    found = total_memory_mib(torch.device("cpu"))
    assert available_memory_mib() < found <= total + 1
