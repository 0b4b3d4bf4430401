import math

import pytest
import torch

from limner.diffusion.schedule import RectifiedFlow, TrigFlow, VariancePreserving, add_noise

SHAPES = [(), (3,), (2, 3), (2, 3, 4), (2, 1, 3, 2), (2, 1, 3, 2, 2)]


@pytest.fixture
def ddpm():
    from diffusers import DDPMScheduler

    return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


@pytest.mark.parametrize("shape", SHAPES)
def test_add_noise_mixes_each_sample_at_its_own_time(shape):
    x0, noise = torch.randn(2, 4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    x_t = add_noise(RectifiedFlow(), x0, noise, t)
    for i in range(4):
        torch.testing.assert_close(x_t[i], x0[i] + t[i] * (noise[i] - x0[i]))


def test_variance_preserving_is_the_ddpm_chain_of_diffusers(ddpm):
    schedule = VariancePreserving(ddpm.alphas_cumprod)
    index = torch.tensor([0, 1, 500, 998, 999])
    x0, noise = torch.randn(2, 5, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = ddpm.add_noise(x0, noise, index)
    torch.testing.assert_close(add_noise(schedule, x0, noise, schedule.time(index)), expected)


@pytest.mark.parametrize("levels", [7, 50, 1000, 4000])
def test_index_and_time_are_inverse_at_every_level(levels):
    schedule = VariancePreserving(torch.linspace(0.99, 0.01, levels))
    index = torch.arange(levels)
    assert torch.equal(schedule.index(schedule.time(index)), index)
    assert schedule.time(index)[-1] == 1
    assert torch.equal(schedule.alpha(schedule.time(index)), torch.linspace(0.99, 0.01, levels).sqrt())


def test_variance_preserving_time_zero_is_clean_data(ddpm):
    schedule = VariancePreserving(ddpm.alphas_cumprod)
    t = torch.zeros(2)
    assert schedule.alpha(t).tolist() == [1, 1]
    assert schedule.sigma(t).tolist() == [0, 0]


def test_the_quarter_circle_ends_in_noise_alone():
    """At an eighth of a turn data and noise weigh alike; no rounding makes the weight of data negative."""
    t = torch.tensor([0.0, 1 / 3, 0.5, 1.0])
    schedule = TrigFlow()
    torch.testing.assert_close(
        schedule.alpha(t), torch.tensor([1, math.sqrt(0.75), math.sqrt(0.5), 0]), atol=1e-7, rtol=0
    )
    torch.testing.assert_close(schedule.sigma(t), torch.tensor([0, 0.5, math.sqrt(0.5), 1]))
    assert schedule.alpha(t)[-1] >= 0
