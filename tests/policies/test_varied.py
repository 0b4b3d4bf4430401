"""Samples that begin with given ones, noised again: by hand, against the steps of Euler's method."""

from __future__ import annotations

import pytest
import torch

from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.policies.denoising import Sampler
from limner.policies.varied import Varied
from toys import toy_denoiser


@pytest.mark.parametrize(("level", "begin"), [(0.75, 1), (0.7, 1), (0.55, 2), (0.99, 0), (0.1, 3)])
def test_it_goes_on_from_the_nearest_time(level: float, begin: int) -> None:
    """Four equal steps: (1 - t) x0 + t noise at the time nearest to the level, and x + (s - t) v from there."""
    model = toy_denoiser(2, dtype=torch.float64)
    policy = Sampler(FlowSDE(0.7), steps=4).policy(model)  # its noise is for paths, and is not added here
    condition, index, id = model.encode([Prompt("1"), Prompt("2")]), torch.tensor([0, 1]), torch.tensor([5, 9])
    start = torch.randn(2, *model.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = Varied(policy, level, start).sample(condition, index, id, id, rng=Rng("test"), record=False)
        noise = Rng("test").child("varied").normal(id, model.shape).double()
        times = [1.0, 0.75, 0.5, 0.25, 0.0][begin:]
        x = (1 - times[0]) * start + times[0] * noise
        for t, s in zip(times[:-1], times[1:], strict=True):
            x = x + (s - t) * model.network(x, torch.full((2,), t, dtype=torch.float64), torch.tensor([1, 2]))
    torch.testing.assert_close(found.sample, x, atol=1e-6, rtol=0)
    assert found.trajectory is None


def test_a_lower_level_stays_nearer() -> None:
    """With a network that leads back to where it came from, what is left of the start is 1 - t of it."""
    model = toy_denoiser(2)
    for parameter in model.network.parameters():
        parameter.data.zero_()
    policy = Sampler(EulerODE(), steps=10).policy(model)
    start, id = torch.ones(1, *model.shape), torch.tensor([3])
    condition = model.encode([Prompt("1")])
    near, far = (
        Varied(policy, level, start).sample(condition, id * 0, id, id, rng=Rng("test"), record=False).sample
        for level in (0.2, 0.8)
    )
    torch.testing.assert_close((near - 0.8) / 0.2, (far - 0.2) / 0.8, atol=1e-5, rtol=0)
