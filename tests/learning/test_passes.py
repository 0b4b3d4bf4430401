"""Which loop an algorithm gets, and which policies it can have."""

from __future__ import annotations

import pytest
import torch

from limner.algorithms.ddpo import DDPO
from limner.algorithms.dgpo import DGPO
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.core.errors import UserError
from limner.core.protocols import Actors, Context, DecisionProcess, ForwardProcess, Policy
from limner.core.rng import Rng
from limner.core.types import Batch, Renoised, Sampled
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.learning.passes import optimizer_steps, require
from limner.policies.denoising import Sampler
from toys import Bigrams, ToyTokens, toy_denoiser, toy_rollout

CONTEXT = Context(Rng(("passes",)), 0, 5)


class Leap:
    """A generator of one step: nothing to score again, nothing to restore."""

    def at(self, iteration):
        return self

    def sample(self, condition, prompt_index, group, id, *, rng, record):
        return Sampled(torch.zeros(len(id), 2), None)


def test_a_policy_says_what_it_can_do_by_what_it_has():
    denoising, tokens, leap = (
        Sampler(FlowSDE(), 4).policy(toy_denoiser()),
        ToyTokens(Bigrams()),
        Leap(),
    )
    assert all(isinstance(policy, Policy) for policy in (denoising, tokens, leap))
    assert [isinstance(policy, DecisionProcess) for policy in (denoising, tokens, leap)] == [True, True, False]
    assert [isinstance(policy, ForwardProcess) for policy in (denoising, tokens, leap)] == [True, False, False]
    for algorithm in (FlowGRPO(), DiffusionNFT()):
        require(algorithm, denoising, anchored=True)
    require(FlowGRPO(), tokens)
    with pytest.raises(UserError, match="DiffusionNFT noises finished samples again, which ToyTokens cannot do: take"):
        require(DiffusionNFT(), tokens)
    with pytest.raises(UserError, match="DDPO scores the decisions of a sampler, but those of Leap cannot be scored"):
        require(DDPO(), leap)
    with pytest.raises(UserError, match="anchor.weight noises data again, which ToyTokens cannot do"):
        require(FlowGRPO(), tokens, anchored=True)


def test_a_step_can_be_a_part_of_a_larger_one():
    """Shares of a step over a total that others have a part in: all scale alike."""
    policy = Sampler(FlowSDE(), 5).policy(toy_denoiser())
    batch = Batch(toy_rollout(policy), torch.randn(12, generator=torch.Generator().manual_seed(1)))
    steps = list(optimizer_steps(FlowGRPO(num_updates=3), Actors(policy, policy, policy), batch, CONTEXT))
    assert [step.size for step in steps] == [16, 16, 16]
    mine, ours = ([float(share.loss.detach()) for share in steps[0].shares(total)] for total in (16, 64))
    assert len(mine) == 4 and mine == pytest.approx([4 * loss for loss in ours])


def test_whole_groups_are_measured_before_their_loss():
    """The mean is over all samples of a group at one time; those that do not teach count as 0."""
    seen: list[tuple[Renoised, torch.Tensor]] = []

    class Watching(DGPO):
        def measure(self, actors, batch, pack):
            assert not torch.is_grad_enabled()
            return 1.0 + pack.row + 100.0 * pack.column

        def pass_loss(self, actors, batch, pack, group_mean):
            seen.append((pack, group_mean))
            return super().pass_loss(actors, batch, pack, group_mean)

    policy = Sampler(EulerODE(), 5).policy(toy_denoiser())
    rollout = toy_rollout(policy, record=False)
    advantage = torch.ones(12)
    advantage[[1, 8, 9, 10, 11]] = 0
    algorithm = Watching(num_times=2, num_updates=2)
    steps = list(optimizer_steps(algorithm, Actors(policy, policy, policy), Batch(rollout, advantage), CONTEXT))
    assert sorted(step.size for step in steps) == [2 * 3, 2 * 4]
    for step in steps:
        seen.clear()
        list(step.shares(step.size))
        rows = torch.cat([pack.row for pack, _ in seen])
        assert len(rollout.group[rows].unique()) == 1
        for pack, mean in seen:
            first = pack.row < 4
            base = torch.where(first, (1 + 3 + 4) / 4, (5 + 6 + 7 + 8) / 4)
            assert torch.equal(mean, base + 100.0 * pack.column * torch.where(first, 0.75, 1.0))
