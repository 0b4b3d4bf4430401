"""One-step policies on o5, against Gaussians in closed form: densities, gradients, divergences and optima."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.algorithms.ddpo import DDPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.surrogate_gradient import SurrogateGradient
from limner.build import assemble
from limner.core.errors import UserError
from limner.core.protocols import Actors, Algorithm, Context
from limner.core.rng import Rng
from limner.core.types import Batch, Condition, Prompt
from limner.policies.one_step import OneStep, OneStepSampler
from limner.training.config import Full, Model, Optimizer, RunConfig
from limner.training.loop import Hooks, train
from limner.training.state import State
from limner.worlds.oracle.model import Oracle
from limner.worlds.oracle.one_step import OneStepOracle
from limner.worlds.oracle.world import WORLDS
from toys import Silent, losses, toy_rollout

NOISE, DIM = 0.3, 2
OUTPUT, LATENT = OneStepSampler("output", NOISE), OneStepSampler("latent")
CASES = [("o5", OUTPUT), ("o5-latent", LATENT)]
REWARD = WORLDS["o2"].reward
LINEAR, CURVATURE = (part.double() for part in REWARD)
MATRIX, SHIFT = torch.tensor([[1.0, 0.3], [-0.2, 0.8]]).double(), torch.tensor([0.5, -0.5]).double()


def rollout_of(policy: OneStep, count: int, seed: int = 0) -> Any:
    return toy_rollout(policy, 1, count, seed, condition=policy.model.encode([Prompt("a point")]))


def density(x: list[float], mean: list[float], std: float) -> float:
    """log N(x; mean, std^2 I), number by number."""
    return sum(
        -((a - m) ** 2) / (2 * std**2) - math.log(std) - math.log(2 * math.pi) / 2 for a, m in zip(x, mean, strict=True)
    )


def moved(model: OneStepOracle) -> OneStepOracle:
    with torch.no_grad():
        for network in model.networks.values():
            for i, parameter in enumerate(network.parameters()):
                parameter += 0.2 - 0.05 * i
    return model


@pytest.mark.parametrize(("path", "sampler"), CASES, ids=["output", "latent"])
def test_scores_by_hand(path: str, sampler: OneStepSampler) -> None:
    """The density of what was decided, the ratio after a move, and the KL to the base; a point is of its own z."""
    model = OneStepOracle.load(path)
    policy, base = sampler.policy(model), sampler.policy(OneStepOracle.load(path))
    drawn = rollout_of(policy, 8)
    pack = next(policy.pack(drawn, torch.arange(8), 100))
    assert torch.equal(policy.distribution(pack, drawn.condition).log_ratio(pack.old, pack.choice), torch.zeros(8))
    moved(model)
    now, then = (each.distribution(pack, drawn.condition) for each in (policy, base))
    ratio, kl = now.log_ratio(pack.old, pack.choice), now.kl(then)
    for i in range(8):
        choice = pack.choice[i].double().tolist()
        if sampler.chance == "output":
            z = drawn.path.states.z[i, 0].double()
            old = MATRIX @ z + SHIFT
            new = (MATRIX + 0.2) @ z + SHIFT + 0.15
            expected = density(choice, new.tolist(), NOISE) - density(choice, old.tolist(), NOISE)
            distance = float(((new - old) ** 2).sum()) / (2 * NOISE**2)
            assert torch.equal(drawn.sample[i], pack.choice[i])
        else:
            expected = density(choice, [0.2, 0.2], math.exp(0.15)) - density(choice, [0.0, 0.0], 1.0)
            variance = math.exp(0.3)
            distance = (2 * 0.2**2 + DIM * (variance - 1 - math.log(variance))) / 2
            torch.testing.assert_close(drawn.sample[i].double(), MATRIX @ pack.choice[i].double() + SHIFT)
        assert ratio[i].item() == pytest.approx(expected, abs=1e-5) and kl[i].item() == pytest.approx(
            distance, rel=1e-4
        )


@pytest.mark.parametrize(("path", "sampler"), CASES, ids=["output", "latent"])
def test_what_is_drawn_is_the_gaussian(path: str, sampler: OneStepSampler) -> None:
    """Mean and covariance of 4000 points, each within five of its standard errors."""
    sample = rollout_of(sampler.policy(OneStepOracle.load(path)), 4000).sample.double()
    covariance = MATRIX @ MATRIX.T + (NOISE**2 * torch.eye(2) if sampler.chance == "output" else 0)
    away = sample.mean(0) - SHIFT
    assert (away.abs() < 5 * (covariance.diag() / 4000).sqrt()).all()
    spread = covariance.diag()[:, None] * covariance.diag() + covariance**2
    assert ((sample.T.cov() - covariance).abs() < 5 * (spread / 4000).sqrt()).all()


def mean_reward(mean: Tensor, covariance: Tensor) -> Tensor:
    return LINEAR @ mean - mean @ CURVATURE @ mean / 2 - (CURVATURE * covariance).sum() / 2


def exact(path: str, parameters: list[Tensor]) -> Tensor:
    """E[r] of what is drawn, of the parameters that learn."""
    if path == "o5":
        matrix, shift = parameters
        return mean_reward(shift, matrix @ matrix.T + NOISE**2 * torch.eye(2).double())
    mean, log_std = parameters
    return mean_reward(MATRIX @ mean + SHIFT, (2 * log_std).exp() * MATRIX @ MATRIX.T)


def trained(model: OneStepOracle) -> list[Tensor]:
    return [parameter for network in model.networks.values() for parameter in network.parameters()]


WIDE = {"clip_low": 0.2, "clip_high": 0.2, "clip_elements": 1, "num_updates": 1}


@pytest.mark.parametrize("algorithm", [DDPO(surrogate="score"), FlowGRPO(**WIDE)], ids=["score", "grpo"])
@pytest.mark.parametrize(("path", "sampler"), CASES, ids=["output", "latent"])
def test_the_policy_gradient_is_the_exact_one(path: str, sampler: OneStepSampler, algorithm: DDPO | FlowGRPO) -> None:
    """Each number of it, from 25 rollouts of 100, within three standard errors; a loss is one of log p / D."""
    model = OneStepOracle.load(path)
    policy, parameters, found = sampler.policy(model), trained(model), []
    leaves = [parameter.detach().double().requires_grad_(True) for parameter in parameters]
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(exact(path, leaves), leaves)])
    for seed in range(25):
        drawn = rollout_of(policy, 100, seed)
        batch = Batch(drawn, REWARD(drawn.sample) - 0.3)
        shares = losses(algorithm, Actors(policy, policy, policy), batch, Context(Rng(("one", seed)), 0, 100, {}))
        grads = torch.autograd.grad(sum(share.loss for share in shares), parameters)
        found.append(-DIM * torch.cat([each.flatten() for each in grads]))
    estimates = torch.stack(found).double()
    error = estimates.std(0) / math.sqrt(len(found))
    assert ((estimates.mean(0) - expected).abs() <= 3 * error).all() and (expected.abs() > 3 * error).any()


BETA = {"o5": 0.05, "o5-latent": 0.5}


def optimum(path: str) -> list[Tensor]:
    beta, eye = BETA[path], torch.eye(2).double()
    if path == "o5":
        stiff = beta / NOISE**2
        inverse = torch.linalg.inv(CURVATURE + stiff * eye)
        return [inverse @ (stiff * MATRIX), inverse @ (LINEAR + stiff * SHIFT)]
    inner = MATRIX.T @ CURVATURE @ MATRIX
    mean = torch.linalg.solve(inner + beta * eye, MATRIX.T @ (LINEAR - CURVATURE @ SHIFT))
    return [mean, (beta * DIM / (inner.trace() + beta * DIM)).log() / 2]


def objective(path: str, parameters: list[Tensor]) -> Tensor:
    """E[r] - beta KL of the decision."""
    if path == "o5":
        matrix, shift = parameters
        kl = ((matrix - MATRIX).square().sum() + (shift - SHIFT).square().sum()) / (2 * NOISE**2)
    else:
        mean, log_std = parameters
        kl = (mean @ mean + DIM * ((2 * log_std).exp() - 1 - 2 * log_std)) / 2
    return exact(path, parameters) - BETA[path] * kl


@pytest.mark.parametrize("path", ["o5", "o5-latent"])
def test_the_optimum_is_one(path: str) -> None:
    """The objective's gradient is zero there, and anything about it is worth less."""
    leaves = [part.clone().requires_grad_(True) for part in optimum(path)]
    for gradient in torch.autograd.grad(objective(path, leaves), leaves):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = [part + 0.1 * torch.randn(part.shape, generator=generator).double() for part in optimum(path)]
        assert objective(path, other) < objective(path, optimum(path))


def relative(path: str) -> FlowGRPO:
    return FlowGRPO(scale="none", kl_weight=BETA[path], advantage_max=math.inf, **WIDE)


def climbing(path: str) -> SurrogateGradient:
    """The same objective: S is in standard deviations of the first rewards, and KL in nats over 2 elements."""
    model = OneStepOracle.load(path)
    drawn = rollout_of(dict(CASES)[path].policy(model), 4096).sample
    return SurrogateGradient(
        surrogate_lr=3e-3, shown_noise=0.05, keep=16, kl_weight=DIM * BETA[path] / float(REWARD(drawn).std())
    )


@pytest.mark.parametrize(("algorithm", "steps", "share"), [(relative, 60, 0.98), (climbing, 120, 0.93)])
@pytest.mark.parametrize(("path", "sampler"), CASES, ids=["output", "latent"])
def test_training_comes_to_rest_at_the_optimum(
    path: str, sampler: OneStepSampler, algorithm: Callable[[str], Algorithm], steps: int, share: float
) -> None:
    """The file that trains denoisers reaches 98 % of what can be gained of its own objective, a surrogate 93 %."""
    config = RunConfig(
        name="one-step",
        model=Model(kind="limner.worlds.oracle.one_step:OneStepOracleSettings", path=path, train=Full()),
        prompts="oracle:train",
        reward="o2",
        algorithm=algorithm(path),
        sampler=sampler,
        optimizer=Optimizer(lr=5e-2, schedule="cosine"),
        steps=steps,
        prompts_per_step=1,
        group_size=64,
        micro_batch=64,
        device="cpu",
    )
    assembly, kept = assemble(config), Silent()
    start = [parameter.detach().double() for parameter in trained(OneStepOracle.load(path))]
    train(config, assembly.parts, State(), Hooks(kept, kept, lambda state: None, lambda state: {}))
    reached = [p.detach().double() for p in assembly.parts.weights.parameters().values()]
    worth, least, most = (float(objective(path, each)) for each in (reached, start, optimum(path)))
    assert (worth - least) / (most - least) > share


def test_a_group_can_begin_with_one_z() -> None:
    policy = OneStepSampler("output", NOISE, shared_start=True).policy(OneStepOracle.load("o5"))
    drawn = rollout_of(policy, 6)
    z = drawn.path.states.z[:, 0]
    assert torch.equal(z, z[:1].expand(6, -1)) and len(drawn.sample.unique(dim=0)) == 6


def test_plain_samples_have_no_noise_and_no_decision() -> None:
    model = OneStepOracle.load("o5")
    noisy, plain = (each.policy(model) for each in (OUTPUT, OUTPUT.plain()))
    condition = model.encode([Prompt("a point")])
    a, b = rollout_of(noisy, 5), rollout_of(noisy, 5).path.states.z[:, 0].double()
    torch.testing.assert_close(toy_plain(plain, 5, condition).double(), b @ MATRIX.T + SHIFT)
    assert not torch.equal(a.sample, toy_plain(plain, 5, condition))
    with pytest.raises(UserError, match=r"with sampler.noise 0 none is made: raise it .*, or take sampler.chance"):
        OUTPUT.plain().require(FlowGRPO(), 4)
    with pytest.raises(UserError, match="shared_start gives a group one z, which is what chance latent decides"):
        OneStepSampler("latent", shared_start=True)


def toy_plain(policy: OneStep, count: int, condition: Condition) -> Tensor:
    return toy_rollout(policy, 1, count, record=False, condition=condition).sample


def test_a_denoiser_draws_in_one_step_what_it_takes_noise_alone_for() -> None:
    """On o3, whose network is exact, that is the mean of all data, whatever z."""
    model = Oracle.load("o3")
    policy = OneStepSampler("output", NOISE).policy(model)
    drawn = toy_rollout(policy, 1, 6, record=True, condition=model.encode([Prompt("a point")]))
    mean = torch.tensor([0.4 * -2 + 0.2 * 2 + 0.3 * -2 + 0.1 * 2, 0.4 * -2 + 0.2 * -2 + 0.3 * 2 + 0.1 * 2])
    torch.testing.assert_close(drawn.path.old.mean[:, 0], mean.expand(6, -1), atol=1e-4, rtol=0)
    assert torch.equal(drawn.sample, drawn.path.choices[:, 0]) and drawn.path.states.z.shape == (6, 1, 2)
    with pytest.raises(UserError, match="sampler.chance latent decides what what z is drawn from gives"):
        OneStepSampler("latent").policy(model)
