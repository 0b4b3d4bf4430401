"""Every algorithm on every kind of generator that is no denoiser: it teaches, or is refused with what to take."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.surrogate_gradient import SurrogateGradient
from limner.build import Assembly, assemble
from limner.core.errors import UserError
from limner.core.protocols import Algorithm, Context, Sampling
from limner.core.rng import Rng
from limner.core.tree import leaves
from limner.core.types import Batch
from limner.policies.masked import MaskedSampler
from limner.policies.one_step import OneStepSampler
from limner.policies.tokens import TokenSampler
from limner.registry.find import find
from limner.registry.names import ALGORITHMS
from limner.rollout.collect import collect
from limner.training.config import Full, Model, Optimizer, RunConfig
from limner.training.loop import Hooks, train
from limner.training.preflight import preflight
from limner.training.state import State
from praise import praise, quality, step_along
from toys import Silent, losses


@dataclass(frozen=True)
class Kind:
    """A model, how it is sampled, and what judges it."""

    model: str
    sampler: Sampling
    path: str = "o4"
    reward: str = "o4"


TOKENS, ONE_STEP = "tokens:TokenOracleSettings", "one_step:OneStepOracleSettings"
KINDS = {
    "tokens": Kind(TOKENS, TokenSampler(top_k=3, guidance=1.5)),
    "masked": Kind(TOKENS, MaskedSampler("random", steps=2), "o4-masked"),
    "ordered": Kind(TOKENS, MaskedSampler("plackett_luce", steps=3), "o4-masked"),
    "estimated": Kind(TOKENS, MaskedSampler("confidence", steps=2), "o4-masked"),
    "output": Kind(ONE_STEP, OneStepSampler(noise=0.3), "o5", "o2"),
    "latent": Kind(ONE_STEP, OneStepSampler("latent"), "o5-latent", "o2"),
}
PATHS = [name for name in ALGORITHMS if find(ALGORITHMS, "algorithm", name)().needs.path]
THROUGH = [name for name in PATHS if find(ALGORITHMS, "algorithm", name)().needs.outcome]
SCORING = [name for name in PATHS if name not in THROUGH]


def algorithm_of(name: str) -> Algorithm:
    """Return an algorithm that teaches from the first iteration."""
    algorithm = find(ALGORITHMS, "algorithm", name)()
    return replace(algorithm, least_order=0.0) if isinstance(algorithm, SurrogateGradient) else algorithm


def config(kind: Kind, name: str) -> RunConfig:
    return RunConfig(
        name="matrix",
        model=Model(f"limner.worlds.oracle.{kind.model}", kind.path, train=Full()),
        prompts="oracle:train",
        reward=kind.reward,
        algorithm=algorithm_of(name),
        sampler=kind.sampler,
        optimizer=Optimizer(lr=1e-3),
        steps=1,
        prompts_per_step=2,
        group_size=4,
        micro_batch=16,
        device="cpu",
    )


def weights(assembly: Assembly) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in assembly.parts.weights.parameters().values()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_iteration_teaches_or_is_refused(kind: str, name: str) -> None:
    settings, kept = config(KINDS[kind], name), Silent()
    if name in THROUGH and kind not in ("output", "latent"):
        with pytest.raises(UserError, match=f"{name} follows a gradient through the one decision .* sampler OneStep"):
            assemble(settings)
        return
    if name not in PATHS:
        with pytest.raises(UserError, match=f"{name} noises finished samples again, which .* cannot do: take"):
            assemble(settings)
        return
    assembly = assemble(settings)
    before = weights(assembly)
    preflight(settings, assembly.parts)
    assert torch.equal(weights(assembly), before)
    train(settings, assembly.parts, State(), Hooks(kept, kept, lambda state: None, lambda state: {}))
    assert all(math.isfinite(value) for value in kept.metrics.values()), kept.metrics
    after = weights(assembly)
    assert after.isfinite().all() and not torch.equal(after, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCORING)
def test_the_contract_of_losses(kind: str, name: str) -> None:
    """Praise makes a sample likelier; no advantage, no loss; a pass of another size has the same gradient."""
    settings = config(KINDS[kind], name)
    parts, context = assemble(settings).parts, Context(Rng(("praise",)), 0, 100)
    cache, prompts = parts.studio.cache, list(parts.studio.prompts) * 2
    rollout = collect(parts.studio.policy, cache, prompts, 4, rng=context.rng, step=0, record=True, micro_batch=16)
    trained, batch = list(parts.weights.parameters().values()), praise(rollout, parts.algorithm.needs.pairs)

    def gradient(size: int) -> torch.Tensor:
        for parameter in trained:
            parameter.grad = None
        for output in losses(parts.algorithm, parts.actors, batch, replace(context, micro_batch=size)):
            output.loss.backward()
        return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in trained])

    nothing = Batch(rollout, torch.zeros(len(rollout)))
    assert not losses(parts.algorithm, parts.actors, nothing, context)
    before, whole = quality(parts.algorithm, parts.actors, rollout, context), gradient(100)
    torch.testing.assert_close(gradient(3), whole, rtol=1e-4, atol=1e-7)
    parts_of = torch.split(whole, [parameter.numel() for parameter in trained])
    step_along([part.view_as(parameter) for part, parameter in zip(parts_of, trained, strict=True)], trained, 1e-3)
    assert quality(parts.algorithm, parts.actors, rollout, context) > before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"scale": "depth"}, "compares the branches of a tree, .*: take algorithm.scale group"),
        ({"noise_weight": True}, "weighs decisions by their std, .*: set noise_weight to false"),
        ({"ratio": "distance"}, "clips a distance to a mean, .*: take algorithm.ratio log_ratio"),
    ],
)
def test_what_denoising_alone_has_is_refused(kind: str, asked: dict[str, Any], said: str) -> None:
    """Before anything is loaded; decisions with Gaussian noise have a std and a mean whatever makes them."""
    settings = config(KINDS[kind], "FlowGRPO")
    if kind in ("output", "latent") and "scale" not in asked:
        assert replace(settings, algorithm=FlowGRPO(**asked)).sampler == settings.sampler
        return
    with pytest.raises(UserError, match=f"FlowGRPO {said}"):
        replace(settings, algorithm=FlowGRPO(**asked))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_recorded_stays_when_weights_change(kind: str) -> None:
    """A ratio compares with what the sampler recorded, which is no view of the weights."""
    parts = assemble(config(KINDS[kind], "DDPO")).parts
    prompts = list(parts.studio.prompts)[:1]
    rollout = collect(
        parts.studio.policy, parts.studio.cache, prompts, 1, rng=Rng(("kept",)), step=0, record=True, micro_batch=16
    )
    kept = [leaf.clone() for leaf in leaves((rollout.path, rollout.sample))]
    with torch.no_grad():
        for parameter in parts.weights.parameters().values():
            parameter.add_(1.0)
    for leaf, before in zip(leaves((rollout.path, rollout.sample)), kept, strict=True):
        assert torch.equal(leaf, before)
