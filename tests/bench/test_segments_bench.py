"""The measurement of judged segments: pairs that say what they are to say, and a gain that is the most there is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from limner.diffusion.dynamics import EulerODE
from limner.policies.denoising import Sampler


@pytest.fixture(scope="module")
def segments() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "segments.py"
    spec = importlib.util.spec_from_file_location("segments", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_labels_say_which_is_better_where(segments: ModuleType) -> None:
    """Without noise, label times advantage is the sign of each segment's difference; the whole is that of the sum."""
    batch = segments.compared(3, 0, 0.0, True)
    first, second = batch.rollout.sample[::2], batch.rollout.sample[1::2]
    assert torch.equal(batch.rollout.region[::2] * batch.advantage[::2, None], (first - second).sign())
    assert torch.equal(batch.advantage[::2], (first.sum(1) - second.sum(1)).sign())
    assert torch.equal(batch.advantage[1::2], -batch.advantage[::2])
    whole = segments.compared(3, 0, 0.0, False)
    assert whole.rollout.region is None and torch.equal(whole.rollout.sample, batch.rollout.sample)


def test_a_mean_that_moves_along_the_reward_gains_all_there_is(segments: ModuleType) -> None:
    """The tilt by a linear reward is a shift by P 1: the gain is then sqrt(2 1'P1 KL). Across it, nothing is gained."""
    sampler = Sampler(EulerODE(), steps=10)
    for direction, share in ((torch.ones(4), 1.0), (torch.tensor([1.0, -1, 1, -1]), 0.0), (torch.eye(4)[0], 0.5)):
        moved = segments.oracle()
        with torch.no_grad():
            moved.networks["residual"].shift[0] = -0.3 * direction
        gained, kl, of = segments.measured(moved, segments.oracle(), sampler)
        assert of == pytest.approx(share, abs=1e-6) and kl > 0.01 and (gained > 0.1) == (share > 0)
