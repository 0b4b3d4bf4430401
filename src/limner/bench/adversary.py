"""What a discriminator is worth as a reward, on o5, where how far samples are from the data is known exactly.

    python -c "from limner.bench.adversary import gamed; print(gamed())"

The data are N(AIM, SPREAD^2 I), and what the generator draws is Gaussian too, so that KL(drawn || data) is a formula. A
discriminator that is frozen praises one point most, and the policy comes to draw little else; one that learns along
says what is drawn too much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limner.algorithms.flow_grpo import FlowGRPO
from limner.bench.oracles import Silent
from limner.build import assemble
from limner.core.types import Prompt
from limner.policies.one_step import OneStepSampler
from limner.rewards.algebra.against import Adversary
from limner.rewards.algebra.tree import Expression, leaf
from limner.training.config import Full, Model, Optimizer, RunConfig
from limner.training.loop import Hooks, train
from limner.training.state import State
from limner.worlds.oracle.one_step import Affine

AIM, SPREAD = (-0.5, 0.8), 0.6
OUTPUT, LATENT = OneStepSampler("output", 0.3), OneStepSampler("latent")


def across(media: Any, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return how far to the right points are."""
    return media.position[:, 0]


def up(media: Any, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return how high points are."""
    return media.position[:, 1]


def adversary(every: int = 1) -> Adversary:
    """Return a discriminator that sees where points are."""
    return Adversary((leaf(f"{__file__}:across"), leaf(f"{__file__}:up")), every=every)


def trained(
    reward: Expression, sampler: OneStepSampler, steps: int, seed: int = 0, memory: dict[str, Any] | None = None
) -> list[Tensor]:
    """Return what learns on o5, after so many iterations of 128 points."""
    config = RunConfig(
        name="adversary",
        model=Model(
            kind="limner.worlds.oracle.one_step:OneStepOracleSettings",
            path="o5" if sampler.chance == "output" else "o5-latent",
            train=Full(),
        ),
        prompts="oracle:train",
        reward=str(reward),
        algorithm=FlowGRPO(scale="none", advantage_max=math.inf, clip_low=0.2, clip_high=0.2, clip_elements=1),
        sampler=sampler,
        optimizer=Optimizer(lr=0.1, schedule="cosine"),
        steps=steps,
        prompts_per_step=1,
        group_size=128,
        seed=seed,
        device="cpu",
    )
    assembly = assemble(config)
    state = State(reward_memory=memory or {})
    train(config, assembly.parts, state, Hooks(Silent(), Silent(), lambda state: None, lambda state: {}))
    return [each.detach().double() for each in assembly.parts.weights.parameters().values()]


def divergence(matrix: Float[Tensor, "2 2"], shift: Float[Tensor, " 2"]) -> float:
    """Return KL(what is drawn || data), in nats, where A z + b learns."""
    covariance = matrix @ matrix.T + OUTPUT.noise**2 * torch.eye(2).double()
    away = shift - torch.tensor(AIM).double()
    logs = 2 * math.log(SPREAD**2) - covariance.logdet()
    return float((covariance.trace() + away @ away) / SPREAD**2 - 2 + logs) / 2


def gamed(steps: int = 60, seed: int = 0) -> dict[str, float]:
    """Return how far from the data samples are at first, against a frozen discriminator, and one that learns along.

    Both have seen 512 samples of the data, and maximise nothing else.
    """
    noise = torch.randn(512, 2, generator=torch.Generator().manual_seed(seed)).double()
    data = torch.tensor(AIM) + SPREAD * noise
    found = {"at first": divergence(*(each.detach().double() for each in Affine().parameters()))}
    for name, every in (("frozen", 0), ("learning along", 1)):
        reward = adversary(every)
        learnt = trained(reward, OUTPUT, steps, seed, {str(reward): {"reference": data.double()}})
        found[name] = divergence(*learnt)
    return found
