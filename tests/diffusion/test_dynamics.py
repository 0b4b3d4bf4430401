import math

import numpy as np
import pytest
import torch

from limner.diffusion.dynamics import CPS, DDIM, DanceSDE, DPMSolver, EulerODE, FlowSDE, Multistep, Windowed
from limner.diffusion.prediction import Estimate, to_estimate
from limner.diffusion.schedule import RectifiedFlow, VariancePreserving
from limner.diffusion.timesteps import flow_grid, linear_grid

SHAPES = [(), (3,), (2, 3), (2, 3, 4), (2, 1, 3, 2), (2, 1, 3, 2, 2)]
ALL = [EulerODE(), DPMSolver(), FlowSDE(), DanceSDE(), CPS(), DDIM()]
FLOW = RectifiedFlow()
SD15_BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
VP = VariancePreserving((1 - SD15_BETAS).cumprod(0))
MEAN, VARIANCE = 0.3, 0.25


def draw(*size, seed=0):
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def flow_step(dynamics, x, velocity, t, s):
    return dynamics.step(x, to_estimate("velocity", velocity, x, t, FLOW), t, s, FLOW)


def exact_estimate(x, t, schedule):
    """E[x0 | x_t] and E[noise | x_t] where the data are N(MEAN, VARIANCE): what a perfect network would say."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    surprise = (x - alpha * MEAN) / (alpha**2 * VARIANCE + sigma**2)
    return Estimate(MEAN + alpha * VARIANCE * surprise, sigma * surprise)


def integrate(dynamics, grid, schedule):
    """Mean and variance of the end, and its correlation with the start, exactly: every step here is affine in x."""
    alpha, sigma = schedule.alpha(grid[:1]).item(), schedule.sigma(grid[:1]).item()
    mean, start = alpha * MEAN, alpha**2 * VARIANCE + sigma**2
    variance = covariance = start
    for t, s in zip(grid[:-1].expand(2, -1).T, grid[1:].expand(2, -1).T, strict=True):
        x = torch.tensor([0.0, 1.0], dtype=torch.float64)
        gaussian = dynamics.step(x, exact_estimate(x, t, schedule), t, s, schedule)
        offset, slope = gaussian.mean[0].item(), (gaussian.mean[1] - gaussian.mean[0]).item()
        mean, covariance = slope * mean + offset, slope * covariance
        variance = slope**2 * variance + gaussian.std[0].item() ** 2
    return mean, variance, covariance / math.sqrt(start * variance)


@pytest.mark.parametrize("dynamics", [EulerODE(), FlowSDE(0.7), FlowSDE(1.0), FlowSDE(2**0.5), DanceSDE(0.3), DDIM()])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_every_sde_keeps_the_marginals_of_rectified_flow(dynamics, shift):
    mean, variance, _ = integrate(dynamics, linear_grid(2000, shift).double(), FLOW)
    assert mean == pytest.approx(MEAN, rel=1e-6)
    assert variance == pytest.approx(VARIANCE, rel=0.015)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_keeps_the_marginals_of_ddpm(eta):
    grid = torch.arange(1000, -1, -1, dtype=torch.float64) / 1000
    mean, variance, _ = integrate(DDIM(eta), grid, VP)
    assert mean == pytest.approx(MEAN, rel=1e-3)
    assert variance == pytest.approx(VARIANCE, rel=0.02)


@pytest.mark.parametrize("schedule", [FLOW, VP], ids=["flow", "vp"])
def test_ddims_chain_is_the_posterior_of_its_step_on_any_schedule(schedule):
    """x_s given x_t and x0, from the joint covariance of a Markov chain x0 -> x_s -> x_t; steps of a tenth."""
    t, s = (torch.arange(first, first + 9, dtype=torch.float64) / 10 for first in (2, 1))
    x, x0 = torch.randn(2, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (a_t, b_t), (a_s, b_s) = ((schedule.alpha(time), schedule.sigma(time)) for time in (t, s))
    covariance = a_t / a_s * b_s**2
    mean = a_s * x0 + covariance / b_t**2 * (x - a_t * x0)
    gaussian = DDIM().step(x[:, None], Estimate(x0[:, None], ((x - a_t * x0) / b_t)[:, None]), t, s, schedule)
    torch.testing.assert_close(gaussian.mean[:, 0], mean)
    torch.testing.assert_close(gaussian.std, (b_s**2 - covariance**2 / b_t**2).sqrt())


def test_noise_forgets_the_start_and_sqrt_two_forgets_it_wholly():
    grid = linear_grid(200, 1.0).double()
    correlation = [integrate(FlowSDE(a), grid, FLOW)[2] for a in (0.7, 1.0, 2**0.5)]
    assert integrate(EulerODE(), grid, FLOW)[2] == pytest.approx(1)
    assert correlation[0] == pytest.approx(0.14, abs=0.005)
    assert correlation[0] > correlation[1] > correlation[2]
    assert correlation[2] < 1e-3
    assert integrate(DDIM(), grid, FLOW)[2] < 1e-3


def test_cps_contracts_as_documented():
    grid = linear_grid(10, 1.0).double()
    assert integrate(EulerODE(), grid, FLOW)[1] == pytest.approx(0.186, abs=5e-4)
    assert integrate(CPS(0.8), grid, FLOW)[1] == pytest.approx(0.124, abs=5e-4)
    assert integrate(CPS(0.8), linear_grid(1000, 1.0).double(), FLOW)[1] == pytest.approx(0.162, abs=5e-4)


def test_sampled_paths_reach_the_data_distribution():
    count, grid = 20_000, linear_grid(100, 1.0).double()
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(count, dtype=torch.float64, generator=generator)
    for t, s in zip(grid[:-1].expand(count, -1).T, grid[1:].expand(count, -1).T, strict=True):
        gaussian = FlowSDE().step(x, exact_estimate(x, t, FLOW), t, s, FLOW)
        x = gaussian.sample(torch.randn(count, dtype=torch.float64, generator=generator))
    assert x.mean().item() == pytest.approx(MEAN, abs=4 * math.sqrt(VARIANCE / count))
    assert x.var().item() == pytest.approx(VARIANCE, rel=0.04)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise_level", [0.7, 1.2])
def test_flow_sde_is_flow_grpos_formula(noise_level, shape):
    grid = flow_grid(10, 3.0).double()
    t, s = grid[:-1], grid[1:]
    x, velocity = draw(2, 10, *shape)
    gaussian = flow_step(FlowSDE(noise_level), x, velocity, t, s)
    for i in range(10):
        now, dt = t[i].item(), (s[i] - t[i]).item()
        strength = noise_level * math.sqrt(now / (1 - (grid[1].item() if i == 0 else now)))
        mean = x[i] * (1 + strength**2 / (2 * now) * dt)
        mean = mean + velocity[i] * (1 + strength**2 * (1 - now) / (2 * now)) * dt
        torch.testing.assert_close(gaussian.mean[i], mean)
        assert gaussian.std[i].item() == pytest.approx(strength * math.sqrt(-dt))


def test_flow_sde_has_the_published_noise_of_sd3():
    grid = flow_grid(10, 3.0)
    std = flow_step(FlowSDE(0.7), torch.zeros(10), torch.zeros(10), grid[:-1], grid[1:]).std
    assert [round(v, 2) for v in std[:-1].tolist()] == [0.70, 0.74, 0.54, 0.45, 0.39, 0.35, 0.32, 0.28, 0.23]
    assert round(std[-1].item(), 3) == 0.006
    assert 1 / std[:-1].mean().item() == pytest.approx(2.252, abs=5e-4)  # TempFlow-GRPO's constant for SD3, 2.25


@pytest.mark.parametrize("shape", SHAPES)
def test_dance_sde_is_dancegrpos_formula(shape):
    t, s = torch.tensor([[1.0, 0.6, 0.2], [0.9, 0.5, 0.0]], dtype=torch.float64)
    x, velocity = draw(2, 3, *shape)
    gaussian = flow_step(DanceSDE(0.3), x, velocity, t, s)
    for i in range(3):
        now, dt = t[i].item(), (s[i] - t[i]).item()
        score = -(x[i] + (1 - now) * velocity[i]) / now
        torch.testing.assert_close(gaussian.mean[i], x[i] + (velocity[i] - 0.3**2 / 2 * score) * dt)
        assert gaussian.std[i].item() == pytest.approx(0.3 * math.sqrt(-dt))


def test_noise_that_grows_with_t_is_that_of_flow_grpos_code_for_wan():
    """S = s_N + (s_1 - s_N) t with the last and the second time of 20 steps at shift 5; std = S sqrt(h)."""
    grid = linear_grid(20, 5.0).double()
    first, last = grid[1].item(), grid[-1].item()
    x, velocity = draw(2, 20, 3)
    gaussian = flow_step(DanceSDE(last, first - last), x, velocity, grid[:-1], grid[1:])
    for i in range(20):
        now, then = grid[i].item(), grid[i + 1].item()
        strength = last + (first - last) * now
        score = -(x[i] + (1 - now) * velocity[i]) / now
        expected = x[i] + (velocity[i] - strength**2 / 2 * score) * (then - now)
        torch.testing.assert_close(gaussian.mean[i], expected)
        assert gaussian.std[i].item() == pytest.approx(strength * math.sqrt(now - then))
    assert DanceSDE(0.0, 0.9).stochastic and not DanceSDE(0.0).stochastic
    with pytest.raises(ValueError, match=r"eta \+ slope must be at least 0"):
        DanceSDE(0.3, -0.4)


@pytest.mark.parametrize("shape", SHAPES)
def test_cps_is_flow_cps_formula(shape):
    t, s = torch.tensor([[1.0, 0.6, 0.2], [0.9, 0.5, 0.0]], dtype=torch.float64)
    x, velocity = draw(2, 3, *shape)
    gaussian = flow_step(CPS(0.8), x, velocity, t, s)
    for i in range(3):
        now, then = t[i].item(), s[i].item()
        std = then * math.sin(0.8 * math.pi / 2)
        clean, noise = x[i] - now * velocity[i], x[i] + (1 - now) * velocity[i]
        torch.testing.assert_close(gaussian.mean[i], (1 - then) * clean + math.sqrt(then**2 - std**2) * noise)
        assert gaussian.std[i].item() == pytest.approx(std)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_ode_is_eulers_step_and_cps_without_noise_is_the_ode(shape):
    t, s = torch.tensor([[1.0, 0.6, 0.2], [0.9, 0.5, 0.0]], dtype=torch.float64)
    x, velocity = draw(2, 3, *shape)
    ode = flow_step(EulerODE(), x, velocity, t, s)
    dt = (s - t).reshape(3, *(1,) * len(shape))
    torch.testing.assert_close(ode.mean, x + dt * velocity)
    cps = flow_step(CPS(0.0), x.float(), velocity.float(), t.float(), s.float())
    ode = flow_step(EulerODE(), x.float(), velocity.float(), t.float(), s.float())
    assert torch.equal(cps.mean, ode.mean)
    assert torch.equal(cps.std, ode.std)


@pytest.mark.parametrize("to_one", [True, False], ids=["ends at 0", "ends at 1/T"])
@pytest.mark.parametrize(("kind", "name"), [("noise", "epsilon"), ("v_prediction", "v_prediction"), ("x0", "sample")])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_is_diffusers_scheduler(eta, kind, name, to_one):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=to_one,
        steps_offset=1,
        prediction_type=name,
    )
    scheduler.set_timesteps(10)
    schedule = VariancePreserving(scheduler.alphas_cumprod)
    end = 0.0 if to_one else 1 / 1000
    for index in scheduler.timesteps:
        x, output, noise = draw(3, 2, 4, 8, 8, seed=index.item()).float()
        t = schedule.time(index).expand(2)
        s = (t - 0.1).clamp(min=end) if index > 100 else torch.full((2,), end)
        ours = DDIM(eta).step(x, to_estimate(kind, output, x, t, schedule), t, s, schedule).sample(noise)
        theirs = scheduler.step(output, index, x, eta=eta, variance_noise=noise).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dynamics", ALL, ids=repr)
def test_the_noise_free_counterpart_draws_no_noise_and_shares_the_mean_of_a_tiny_noise(dynamics):
    t, s = torch.tensor([[1.0, 0.6, 0.2], [0.9, 0.5, 0.1]], dtype=torch.float64)
    x, velocity = draw(2, 3, 4)
    ode = dynamics.deterministic()
    assert not ode.stochastic
    assert dynamics.stochastic == (not isinstance(dynamics, EulerODE | DPMSolver))
    assert flow_step(ode, x, velocity, t, s).std.tolist() == [0, 0, 0]
    if dynamics.stochastic:
        assert (flow_step(dynamics, x, velocity, t, s).std > 0).all()
        quiet = type(dynamics)(1e-6)
        torch.testing.assert_close(
            flow_step(quiet, x, velocity, t, s).mean, flow_step(ode, x, velocity, t, s).mean, rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("dynamics", ALL, ids=repr)
def test_the_first_and_the_last_step_are_finite(dynamics):
    grid = flow_grid(10, 3.0)
    x, velocity = draw(2, 10, 3).float()
    gaussian = flow_step(dynamics, x, velocity, grid[:-1], grid[1:])
    assert gaussian.mean.isfinite().all()
    assert gaussian.std.isfinite().all()
    if isinstance(dynamics, (EulerODE, DPMSolver, CPS, DDIM)):
        assert gaussian.std[-1] == 0
        torch.testing.assert_close(gaussian.mean[-1], x[-1] - grid[-2] * velocity[-1])


@pytest.mark.parametrize("inner", ALL, ids=repr)
def test_a_window_is_stochastic_inside_and_noise_free_outside(inner):
    t, s = torch.tensor([[1.0, 0.6, 0.2], [0.9, 0.5, 0.1]])
    x, velocity = draw(2, 3, 2, 2).float()
    windowed = Windowed(inner, torch.tensor([True, False, True]))
    both, inside = flow_step(windowed, x, velocity, t, s), flow_step(inner, x, velocity, t, s)
    outside = flow_step(inner.deterministic(), x, velocity, t, s)
    assert torch.equal(both.mean[[0, 2]], inside.mean[[0, 2]])
    assert torch.equal(both.std[[0, 2]], inside.std[[0, 2]])
    assert torch.equal(both.mean[1], outside.mean[1])
    assert both.std[1] == 0
    assert windowed.stochastic == inner.stochastic
    assert not Windowed(inner, torch.zeros(3, dtype=torch.bool)).stochastic
    assert windowed.deterministic() == inner.deterministic()


@pytest.mark.parametrize("dynamics", [FlowSDE(), DanceSDE(), CPS(), DDIM()], ids=repr)
def test_the_mean_carries_gradient_to_the_velocity_and_the_std_does_not_depend_on_it(dynamics):
    t, s = torch.tensor([[0.8, 0.3], [0.6, 0.2]], dtype=torch.float64)
    x, velocity = draw(2, 2, 3)
    velocity.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: flow_step(dynamics, x, v, t, s).mean, (velocity,))
    assert not flow_step(dynamics, x, velocity, t, s).std.requires_grad


def test_ddim_refuses_an_eta_outside_its_family():
    with pytest.raises(ValueError, match="eta must be at least 0 and at most 1, got 1.5"):
        DDIM(1.5)


def test_samples_of_a_batch_do_not_see_each_other():
    t, s = torch.tensor(np.linspace(0.9, 0.2, 5)), torch.tensor(np.linspace(0.8, 0.1, 5))
    x, velocity = draw(2, 5, 3)
    order = torch.tensor([3, 0, 4, 1, 2])
    for dynamics in ALL:
        whole = flow_step(dynamics, x, velocity, t, s)
        shuffled = flow_step(dynamics, x[order], velocity[order], t[order], s[order])
        assert torch.equal(shuffled.mean, whole.mean[order])
        assert torch.equal(shuffled.std, whole.std[order])


def solved(dynamics, steps, schedule=None):
    """Follow the probability flow of N(0.5, 0.3^2) with its exact estimates; return x(0) from x(1) = 1.2."""
    schedule = schedule or RectifiedFlow()
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    x, before = torch.tensor([[1.2]], dtype=torch.float64), None
    for i in range(steps):
        t, s = times[i : i + 1], times[i + 1 : i + 2]
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        x0 = 0.5 + alpha * 0.09 / (alpha**2 * 0.09 + sigma**2) * (x - alpha * 0.5)
        estimate = Estimate(x0, (x - alpha * x0) / sigma)
        seen, before = before, estimate
        if seen is not None and isinstance(dynamics, Multistep):
            estimate = dynamics.refine(x, estimate, seen, (times[i - 1 : i], t, s), schedule)
        x = dynamics.step(x, estimate, t, s, schedule).mean
    return x.item()


def test_dpm_solver_is_of_second_order_and_euler_of_first():
    """The flow maps noise to data by their quantiles: x(0) = 0.5 + 0.3 x(1)."""
    exact = 0.5 + 0.3 * 1.2
    euler, solver = ([abs(solved(d, n) - exact) for n in (80, 160, 320)] for d in (EulerODE(), DPMSolver()))
    assert all(1.9 < a / b < 2.1 for a, b in zip(euler, euler[1:], strict=False))
    assert all(3 < a / b < 5 for a, b in zip(solver, solver[1:], strict=False)) and solver[0] < euler[0] / 5


def test_dpm_solver_is_that_of_diffusers():
    """Step by step with DPMSolverMultistepScheduler on a DDPM chain, order 2, midpoint, from the second step on."""
    from diffusers import DPMSolverMultistepScheduler

    theirs = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", solver_order=2, algorithm_type="dpmsolver++",
        solver_type="midpoint", timestep_spacing="leading", steps_offset=1, final_sigmas_type="zero",
    )  # fmt: skip
    theirs.set_timesteps(6)
    schedule = VariancePreserving(theirs.alphas_cumprod)
    times = torch.cat([schedule.time(theirs.timesteps), torch.zeros(1)])
    generator = torch.Generator().manual_seed(0)
    x = y = torch.randn(2, 3, generator=generator)
    before, solver = None, DPMSolver()
    for i, index in enumerate(theirs.timesteps):
        noise = torch.randn(2, 3, generator=generator)
        t, s = times[i].expand(2), times[i + 1].expand(2)
        estimate = to_estimate("noise", noise, x, t, schedule)
        seen, before = before, estimate
        if seen is not None:
            estimate = solver.refine(x, estimate, seen, (times[i - 1].expand(2), t, s), schedule)
        x = solver.step(x, estimate, t, s, schedule).mean
        y = theirs.step(noise, index, y).prev_sample
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_cps_of_noise_alone_is_the_sampler_of_consistency_models_on_a_flow():
    """Step by step with FlowMatchLCMScheduler, on its grid and noise."""
    from diffusers import FlowMatchLCMScheduler

    theirs, times = FlowMatchLCMScheduler(shift=3.0), flow_grid(4, shift=3.0)
    theirs.set_timesteps(4)
    torch.testing.assert_close(theirs.sigmas, times)
    x = y = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    for i, index in enumerate(theirs.timesteps):
        velocity = torch.randn(2, 3, generator=torch.Generator().manual_seed(1 + i))
        noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(100 + i))
        t, s = times[i].expand(2), times[i + 1].expand(2)
        following = CPS(1.0).step(x, to_estimate("velocity", velocity, x, t, FLOW), t, s, FLOW)
        x = following.mean + following.std[:, None] * noise
        y = theirs.step(velocity, index, y, generator=torch.Generator().manual_seed(100 + i)).prev_sample
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def test_cps_of_noise_alone_is_the_sampler_of_consistency_models_on_a_chain():
    """mean = sqrt(abar(s)) x0, std = sqrt(1 - abar(s)): with LCMScheduler, its boundary condition taken off."""
    from diffusers import LCMScheduler

    theirs = LCMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, timestep_scaling=1e6
    )
    theirs.set_timesteps(4)
    schedule = VariancePreserving(theirs.alphas_cumprod)
    times = torch.cat([schedule.time(theirs.timesteps), torch.zeros(1)])
    x = y = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    for i, index in enumerate(theirs.timesteps[:-1]):  # the last one returns the data
        predicted = torch.randn(2, 3, generator=torch.Generator().manual_seed(1 + i))
        noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(100 + i))
        t, s = times[i].expand(2), times[i + 1].expand(2)
        following = CPS(1.0).step(x, to_estimate("noise", predicted, x, t, schedule), t, s, schedule)
        x = following.mean + following.std[:, None] * noise
        y = theirs.step(predicted, index, y, generator=torch.Generator().manual_seed(100 + i)).prev_sample
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_ddim_with_all_its_noise_is_eulers_ancestral_sampler():
    """On x / alpha = x0 + (sigma / alpha) noise, as SDXL-Turbo is sampled: EulerAncestralDiscreteScheduler's steps."""
    from diffusers import EulerAncestralDiscreteScheduler

    theirs = EulerAncestralDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    theirs.set_timesteps(4)
    abar = theirs.alphas_cumprod
    schedule = VariancePreserving(abar)
    times = torch.cat([schedule.time(theirs.timesteps.round().long()), torch.zeros(1)])
    y = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)) * theirs.init_noise_sigma
    x = y * schedule.alpha(times[:1])
    for i, index in enumerate(theirs.timesteps):
        predicted = torch.randn(2, 3, generator=torch.Generator().manual_seed(1 + i))
        noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(100 + i))
        t, s = times[i].expand(2), times[i + 1].expand(2)
        following = DDIM(1.0).step(x, to_estimate("noise", predicted, x, t, schedule), t, s, schedule)
        x = following.mean + following.std[:, None] * noise
        theirs.scale_model_input(y, index)
        y = theirs.step(predicted, index, y, generator=torch.Generator().manual_seed(100 + i)).prev_sample
        torch.testing.assert_close(x / schedule.alpha(times[i + 1 : i + 2]), y, rtol=1e-4, atol=1e-4)
