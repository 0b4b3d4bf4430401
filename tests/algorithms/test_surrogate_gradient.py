"""A surrogate's slope: its loss against finite differences of what samples are worth, and what it waits for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.algorithms.surrogate_gradient import SurrogateGradient
from limner.core.errors import UserError
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.tree import tree_map
from limner.core.types import Batch, Prompt, Rollout, Scored
from limner.learning.passes import require
from limner.models.gan.adapter import GAN
from limner.models.gan.settings import GANSettings
from limner.policies.denoising import Sampler
from limner.policies.one_step import OneStep, OneStepSampler
from limner.worlds.oracle.one_step import OneStepOracle
from pretended_cuda import pretended_cuda
from toys import losses, toy_denoiser, toy_rollout

ALGORITHM, PROMPTS = SurrogateGradient(), [Prompt("a red star"), Prompt("red")]
AIM = torch.tensor([-0.4, 0.7])


def policy_of(kind: str) -> OneStep:
    chance: Any = kind.partition("-")[0]
    model = GAN.tiny(settings=GANSettings(chance)) if kind.endswith("gan") else None
    oracle = OneStepOracle.load("o5" if chance == "output" else "o5-latent")
    return OneStepSampler(chance, noise=0.3).policy(model or oracle)


KINDS = ["output", "latent", "output-gan", "latent-gan", "noise-gan"]


def setting(kind: str, count: int = 6) -> tuple[OneStep, Rollout, list[Tensor]]:
    policy = policy_of(kind)
    parameters = [each for network in policy.model.networks.values() for each in network.parameters()]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for each in parameters:
            each.add_(0.05 * torch.randn(each.shape, generator=generator))
    rollout = toy_rollout(policy, 2, count // 2, 0, condition=policy.model.encode(PROMPTS))
    return policy, rollout, parameters


def context(step: int = 0, memory: dict[str, Any] | None = None, micro_batch: int = 100) -> Context:
    return Context(Rng(("slope", step)), step, micro_batch, {} if memory is None else memory)


def gradient(policy: OneStep, batch: Batch, parameters: list[Tensor], how: Context) -> Tensor:
    for each in parameters:
        each.grad = None
    for share in losses(ALGORITHM, Actors(policy, policy, policy), batch, how):
        share.loss.backward()
    return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_chance_leads_to_the_same_sample(kind: str) -> None:
    policy, rollout, _ = setting(kind)
    pack = next(policy.pack(rollout, torch.arange(6), 100))
    with torch.no_grad():
        _, made = policy.outcome(pack, rollout.condition)
    torch.testing.assert_close(made, rollout.sample, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_is_that_of_what_samples_are_worth(kind: str) -> None:
    """Of r(y) = sum sin(y), whose slope is known: finite differences over the weights, the chance drawn again alike."""
    policy, rollout, parameters = setting(kind)
    batch = Batch(rollout, rollout.sample.cos()[:, None])
    found = gradient(policy, batch, parameters, context())
    direction = [p / found.norm() for p in found.split([each.numel() for each in parameters])]

    def worth(step: float) -> float:
        with torch.no_grad():
            for each, way in zip(parameters, direction, strict=True):
                each.add_(step * way.view_as(each))
            drawn = toy_rollout(policy, 2, 3, 0, condition=rollout.condition).sample.double()
            for each, way in zip(parameters, direction, strict=True):
                each.sub_(step * way.view_as(each))
        return float(drawn.sin().flatten(1).sum(1).mean())

    slope = (worth(1e-3) - worth(-1e-3)) / 2e-3
    assert -slope == pytest.approx(float(found.norm()), rel=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_its_contract(kind: str) -> None:
    """Passes of another size have the same gradient, and so have two halves of the samples; no slope, no loss."""
    policy, rollout, parameters = setting(kind)
    batch = Batch(rollout, torch.randn(rollout.sample[:, None].shape, generator=torch.Generator().manual_seed(1)))
    whole = gradient(policy, batch, parameters, context())
    torch.testing.assert_close(gradient(policy, batch, parameters, context(micro_batch=4)), whole, rtol=1e-4, atol=1e-6)
    half = torch.tensor([1.0, 0, 1, 0, 1, 0]).view(-1, *(1,) * (batch.advantage.ndim - 1))
    halved = replace(batch, advantage=batch.advantage * half)
    rest = replace(batch, advantage=batch.advantage - halved.advantage)
    both = (gradient(policy, halved, parameters, context()) + gradient(policy, rest, parameters, context())) / 2
    torch.testing.assert_close(both, whole, rtol=1e-4, atol=1e-6)
    nothing = Batch(rollout, torch.zeros_like(batch.advantage))
    assert not losses(ALGORITHM, Actors(policy, policy, policy), nothing, context())


def scored(policy: OneStep, seed: int, count: int = 64, sign: float = 1.0) -> Scored:
    """Points are worth what they have along AIM, or against it; one could not be judged."""
    rollout = toy_rollout(policy, 2, count // 2, seed, condition=policy.model.encode(PROMPTS))
    total = sign * (rollout.sample.cpu() @ AIM).double().detach()
    total[5] = torch.nan
    return Scored(rollout, {}, total.isfinite(), total)


def test_it_waits_until_it_orders_what_it_has_not_seen() -> None:
    """The slope is taken where unseen pairs are ordered well enough, and is lost when the judge changes its mind."""
    policy, memory = policy_of("latent"), {}
    for step in range(13):
        how = context(step, memory)
        slope = ALGORITHM.advantage(scored(policy, step, sign=-1.0 if step == 12 else 1.0), how)
        order = how.said["surrogate_order"]
        assert slope.shape == (64, 1, 2) and not slope[5].any()
        assert bool(slope.any()) == (order >= ALGORITHM.least_order)
        if step == 11:
            along = torch.cosine_similarity(slope[torch.arange(64) != 5, 0], AIM[None])
            assert order > 0.9 and along.mean() > 0.9
    assert order < 0.1


def test_it_learns_on_a_card_as_on_the_cpu() -> None:
    """What it remembers of samples is where they are, and a checkpoint of it goes on anywhere."""

    def found(device: torch.device) -> tuple[dict[str, Any], Tensor]:
        policy, memory = OneStepSampler("latent").policy(OneStepOracle.load("o5-latent", device)), {}
        for step in range(6):
            slope = ALGORITHM.advantage(scored(policy, step), context(step, memory))
            assert slope.device.type == device.type
        return memory, slope.cpu()

    _, expected = found(torch.device("cpu"))
    with pretended_cuda() as cuda:
        memory, slope = found(cuda)
        on_cpu = tree_map(lambda each: each.cpu(), memory)
    torch.testing.assert_close(slope, expected, atol=1e-5, rtol=1e-4)
    policy = policy_of("latent")
    assert ALGORITHM.advantage(scored(policy, 6), context(6, on_cpu)).any()


def test_nothing_judged_teaches_nothing() -> None:
    policy, memory = policy_of("latent"), {}
    samples = scored(policy, 0)
    none = replace(samples, valid=torch.zeros_like(samples.valid))
    assert not ALGORITHM.advantage(none, context(0, memory)).any() and not memory


def test_what_takes_many_decisions_is_refused() -> None:
    denoising = Sampler().policy(toy_denoiser(2))
    with pytest.raises(UserError, match=r"SurrogateGradient follows a gradient through the one decision .* Denoising"):
        require(ALGORITHM, denoising)
