"""Algorithms that remember: DDPO's statistics of each prompt, PPO's critic."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from limner.algorithms.ddpo import DDPO
from limner.algorithms.ppo import PPO
from limner.core.errors import UserError
from limner.core.protocols import Context
from limner.core.rng import Rng
from limner.core.types import Scored
from limner.diffusion.dynamics import FlowSDE
from limner.policies.denoising import Sampler
from toys import toy_denoiser, toy_rollout


def scored(total, seed=0):
    policy = Sampler(FlowSDE(), 5).policy(toy_denoiser(1))
    rollout = toy_rollout(policy, prompts=3, group_size=len(total) // 3, seed=seed)
    return Scored(rollout, {}, total.isfinite(), total)


def context(memory, step=0):
    return Context(Rng(("memory", step)), step, 100, memory)


def test_ddpo_compares_with_what_the_prompt_has_earned():
    algorithm, memory = DDPO(buffer_size=6, min_count=5, advantage_max=100.0), {}
    first, second = torch.arange(12.0), torch.arange(12.0) * 2 + 1
    found = algorithm.advantage(scored(first), context(memory))
    torch.testing.assert_close(found, (first - 5.5) / (first.std(correction=0) + 1e-6))  # four each: too few
    second[5] = torch.nan
    found = algorithm.advantage(scored(second, 1), context(memory, 1))
    past = torch.tensor([2.0, 3.0, 1.0, 3.0, 5.0, 7.0])  # of prompt 1, the last six
    assert memory["rewards"]["1"] == past.tolist() and len(memory["rewards"]["2"]) == 6
    torch.testing.assert_close(found[:4], (second[:4] - past.mean()) / (past.std(correction=0) + 1e-6))
    assert found[5] == 0


def test_ddpo_needs_no_groups_but_the_score_needs_its_own_samples():
    with pytest.raises(UserError, match="surrogate ratio"):
        DDPO(surrogate="score", num_updates=2)
    assert DDPO(surrogate="score").needs.clip is None and DDPO().needs.clip.per_element(16_384) == (1e-4, 1e-4)
    assert not DDPO().needs.group and not PPO().needs.group


def test_ppo_credits_each_step_with_its_own_luck():
    """An affine policy and a linear reward: what a decision adds to the reward to expect is its own noise, scaled."""
    algorithm, memory = PPO(decay=0.0, normalise=False, critic_steps=100), {}
    for step in range(8):
        batch = scored(torch.zeros(192), step)
        batch = replace(batch, total=batch.rollout.sample[:, 0])
        advantage = algorithm.advantage(batch, context(memory, step))
    path = batch.rollout.trajectory
    luck = (path.choices - path.old.mean)[:, :, 0]
    assert advantage.shape == (192, 4) and "critic" in memory
    for k in range(4):
        mine = torch.corrcoef(torch.stack([advantage[:, k], *luck.T]))[0, 1:].abs()
        assert mine[k] > 0.85 and mine.sum() - mine[k] < 0.6


def test_ppo_ignores_what_was_not_judged():
    total = torch.arange(12.0)
    total[3] = torch.nan
    advantage = PPO().advantage(scored(total), context({}))
    assert (advantage[3] == 0).all() and advantage[4].abs().min() > 0
    nothing = PPO().advantage(scored(torch.full((12,), torch.nan)), context({}))
    assert not nothing.any()
