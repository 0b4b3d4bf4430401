"""Guidance that differs between what is drawn and what is learned."""

from __future__ import annotations

import pytest
import torch

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.core.errors import UserError
from limner.core.needs import Renoising
from limner.core.rng import Rng
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.learning.restoration import matching_error
from limner.policies.denoising import Sampler
from toys import toy_denoiser, toy_rollout


@pytest.mark.parametrize("scale", [None, 1.0, 2.0])
def test_an_update_may_be_guided_otherwise_than_what_drew(scale):
    """With v = a x + b t + c[word], guided v' = v + (w - 1) (c[word] - c[0]): d v' / d c[0] = 1 - w, of d c[word] w."""
    model = toy_denoiser(2)
    policy = Sampler(EulerODE(), 5, guidance=3.0, update_guidance=scale).policy(model)
    rollout = toy_rollout(policy)
    assert torch.equal(rollout.sample, toy_rollout(Sampler(EulerODE(), 5, guidance=3.0).policy(model)).sample)
    seen = []
    model.network.register_forward_pre_hook(lambda network, inputs: seen.append(len(inputs[0])))
    (pack,) = policy.renoise(rollout, torch.arange(12), Renoising(2, "grid"), Rng((0,)), 64)
    w, network = 3.0 if scale is None else scale, model.network
    estimate = policy.restore(pack, rollout.condition)
    assert seen == [24 if w == 1 else 48]
    word = rollout.condition["word"][pack.prompt_index]
    with torch.no_grad():
        v = (network.scale * pack.state.flatten(1) + network.drift * pack.t[:, None] + network.word[word]).view_as(
            pack.state
        )
        v = v + (w - 1) * (network.word[word] - network.word[0]).view_as(v)
        slope = (2 * (v - (pack.noise - pack.x0)) / v[0].numel()).flatten(1)
    assert torch.allclose(estimate.velocity, v, atol=1e-5)
    matching_error(estimate, pack).sum().backward()
    expected = torch.zeros_like(network.word).index_add_(0, word, w * slope)
    expected[0] += (1 - w) * slope.sum(0)
    assert torch.allclose(network.word.grad, expected, rtol=1e-4, atol=1e-4) and expected.abs().max() > 1


def test_a_ratio_is_of_the_policy_that_drew():
    sampler = Sampler(FlowSDE(), guidance=4.5, update_guidance=1.0)
    with pytest.raises(UserError, match="update_guidance 1: FlowGRPO asks how likely what guidance 4.5 drew has"):
        sampler.require(FlowGRPO(), 4)
    sampler.require(DiffusionNFT(), 4)
    Sampler(FlowSDE(), guidance=4.5, update_guidance=4.5).require(FlowGRPO(), 4)
