import math

import pytest
import torch

from limner.diffusion.timesteps import (
    flow_grid,
    linear_grid,
    logit_normal,
    logit_normal_cdf,
    sliding_start,
    time_shift,
    window,
)


@pytest.mark.parametrize("shift", [1.0, 1.15, 3.0, 5.0, 6.93])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8, 10, 16, 20, 25, 28, 40, 50, 100])
def test_flow_grid_is_diffusers_grid_bit_for_bit(steps, shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    assert torch.equal(flow_grid(steps, shift), scheduler.sigmas)


def test_flow_grid_has_the_values_known_of_sd3():
    known = [1, 0.9601, 0.9133, 0.8577, 0.7904, 0.7073, 0.6022, 0.4649, 0.2780, 0.0089, 0]
    assert [round(t, 4) for t in flow_grid(10, 3.0).tolist()] == known
    assert flow_grid(10, 1.0)[-2:].tolist() == pytest.approx([0.001, 0])


def test_linear_grid_is_the_shifted_line():
    assert linear_grid(4, 1.0).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert linear_grid(10, 3.0)[-2].item() == pytest.approx(0.25)
    assert linear_grid(4, 3.0).tolist() == pytest.approx([1, 2.25 / 2.5, 1.5 / 2, 0.75 / 1.5, 0])


def test_time_shift_is_undone_by_its_inverse():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(time_shift(time_shift(t, 3.0), 1 / 3), t)


def test_window_marks_each_samples_own_steps():
    mask = window(torch.tensor([0, 2, 1]), 2, 4)
    assert mask.int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]]


@pytest.mark.parametrize(("start", "size"), [([3], 2), ([-1], 2), ([0], 0)])
def test_window_refuses_what_does_not_fit(start, size):
    with pytest.raises(ValueError, match="is empty or leaves the 4 steps"):
        window(torch.tensor(start), size, 4)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.8)])
def test_logit_normal_has_normal_logits(mean, std):
    u = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    t = logit_normal(u, mean, std)
    torch.testing.assert_close(torch.distributions.Normal(mean, std).cdf(torch.logit(t)), u)


def simulated(iterations, low, high, stride, stay):
    """The state machine of the published code: a start, and how long it has been there."""
    start, here, found = low, 0, []
    for _ in range(iterations):
        found.append(start)
        here += 1
        if here >= stay(start):
            start, here = start + stride, 0
        if start > high:
            start = low
    return found


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("kind", ["progressive", "decay", "exp_decay"])
def test_a_window_slides_as_the_state_machine_does(kind, stride):
    stay = {
        "progressive": lambda at: 7,
        "decay": lambda at: max(1, int(7 * (1 - at / 19) + at / 19)),
        "exp_decay": lambda at: math.ceil(7 * math.exp(-0.1 * max(0, at - 13))),
    }[kind]
    found = [sliding_start(i, 2, 19, stride, 7, kind) for i in range(300)]
    assert found == simulated(300, 2, 19, stride, stay)
    assert len(set(found)) == len(range(2, 20, stride))


def test_a_window_that_cannot_move_stays():
    assert {sliding_start(i, 0, 0, 1, 5, "decay") for i in range(20)} == {0}


@pytest.mark.parametrize("t", [0.01, 0.3, 0.5, 0.95])
def test_the_share_of_times_below_one_inverts_the_draw(t):
    for mean, std in ((0.0, 1.0), (1.0, 0.5)):
        share = logit_normal_cdf(t, mean, std)
        assert logit_normal(torch.tensor(share, dtype=torch.float64), mean, std).item() == pytest.approx(t, rel=1e-6)
    assert (logit_normal_cdf(0.0), logit_normal_cdf(-1.0), logit_normal_cdf(1.0)) == (0.0, 0.0, 1.0)
