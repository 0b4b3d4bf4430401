"""The prediction of a run's peak, by hand; tests/run/test_check.py compares it with what runs take."""

from __future__ import annotations

import pytest
import torch

from limner.training.footprint import footprint

MIB = 2**20


@pytest.mark.parametrize(("stills", "samples"), [(0, 3.0), (MIB, 3.0), (5 * MIB, 5.0)])
def test_the_terms(stills: int, samples: float) -> None:
    """A dry run of 100 MiB with a quarter of the samples (1 MiB), and half a MiB of bfloat16 weights."""
    trained = [torch.zeros(MIB // 4, dtype=torch.bfloat16)]
    found = footprint(torch.device("cpu"), 100, trained, [torch.zeros(MIB // 4)], 3, stills)
    assert (found.dry_run, found.optimizer, found.samples) == (100, 2.0, samples)
    assert found.peak == 102 + samples and str(found).startswith(f"peak about {102 + samples:.0f} MiB (100 in this")


def test_on_an_accelerator_only_what_lives_there_counts() -> None:
    kept = [torch.zeros(MIB // 4), torch.zeros(MIB // 2, device="meta")]
    assert footprint(torch.device("meta"), 10, [], kept, 1, 0).samples == 2
    assert footprint(torch.device("cuda"), 10, [], kept, 1, 7 * MIB).samples == 0
