import pytest
import torch

from limner.diffusion.prediction import Estimate, from_estimate, to_estimate
from limner.diffusion.schedule import RectifiedFlow, VariancePreserving

SHAPES = [(), (3,), (2, 3), (2, 3, 4), (2, 1, 3, 2), (2, 1, 3, 2, 2)]
KINDS = ["velocity", "noise", "x0", "v_prediction"]
SCHEDULES = [RectifiedFlow(), VariancePreserving(torch.linspace(0.999, 0.01, 100, dtype=torch.float64))]


def network_output(kind, x0, noise, alpha, sigma):
    return {"velocity": noise - x0, "noise": noise, "x0": x0, "v_prediction": alpha * noise - sigma * x0}[kind]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["flow", "vp"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_true_prediction_gives_back_data_and_noise(kind, schedule, shape):
    x0, noise = torch.randn(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.03, 0.4, 0.9], dtype=torch.float64)
    for i in range(3):
        alpha, sigma = schedule.alpha(t)[i].item(), schedule.sigma(t)[i].item()
        x_t = alpha * x0[i : i + 1] + sigma * noise[i : i + 1]
        output = network_output(kind, x0[i : i + 1], noise[i : i + 1], alpha, sigma)
        estimate = to_estimate(kind, output, x_t, t[i : i + 1], schedule)
        torch.testing.assert_close(estimate.x0, x0[i : i + 1])
        torch.testing.assert_close(estimate.noise, noise[i : i + 1])
        torch.testing.assert_close(from_estimate(kind, Estimate(x0, noise), t, schedule)[i : i + 1], output)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["flow", "vp"])
@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_an_imperfect_prediction_survives_the_trip_through_any_kind(source, target, schedule):
    x_t, output = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.1, 0.5, 0.97], dtype=torch.float64)
    there = from_estimate(target, to_estimate(source, output, x_t, t, schedule), t, schedule)
    back = from_estimate(source, to_estimate(target, there, x_t, t, schedule), t, schedule)
    torch.testing.assert_close(back, output)


def test_velocity_of_rectified_flow_needs_no_division():
    x_t, velocity = torch.randn(2, 1000, 7, generator=torch.Generator().manual_seed(2))
    t = torch.linspace(0, 1, 1000)
    estimate = to_estimate("velocity", velocity, x_t, t, RectifiedFlow())
    assert torch.equal(estimate.x0, x_t - t[:, None] * velocity)
    assert torch.equal(estimate.noise, x_t + (1 - t[:, None]) * velocity)
