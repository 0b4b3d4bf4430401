"""Clips that go on from known ones: by hand, against Euler's steps with the known times put back after each."""

from __future__ import annotations

from dataclasses import replace

import torch

from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.policies.continued import Continued
from limner.policies.denoising import Sampler
from toys import toy_denoiser


def test_the_known_times_are_held_at_their_noise_level() -> None:
    """Of x = [known, new], after each step to s the first time is (1 - s) known + s e, and the other one is stepped."""
    model = toy_denoiser(4, dtype=torch.float64)
    policy = Sampler(EulerODE(), steps=4).policy(model)
    condition, index, id = model.encode([Prompt("1"), Prompt("2")]), torch.tensor([0, 1]), torch.tensor([5, 9])
    known = torch.randn(2, 3, 1, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = Continued(policy, known, 2).sample(condition, index, id, id, rng=Rng("test"), record=True)
        states: list[torch.Tensor] = []
        alone = Rng("test").child("part", 2)
        policy.sample(condition, index, id, id, rng=alone, record=False, watch=lambda step: states.append(step.x))
        x, start = states[0], states[0][:, :, :1]
        for t in (1.0, 0.75, 0.5, 0.25):
            s = t - 0.25
            x = x - 0.25 * model.network(x, torch.full((2,), t, dtype=torch.float64), torch.tensor([1, 2]))
            x = torch.cat([(1 - s) * known + s * start, x[:, :, 1:]], 2)
    torch.testing.assert_close(found.sample, x, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.sample[:, :, :1], known, atol=0, rtol=0)
    assert found.trajectory is None


def test_what_does_not_depend_on_the_known_times_is_drawn_as_ever() -> None:
    """With a velocity of 0 each time of the latent keeps its own noise, and each part has noise of its own."""
    model = toy_denoiser(4)
    for parameter in model.network.parameters():
        parameter.data.zero_()
    policy = Sampler(FlowSDE(0.7), steps=3).policy(model)
    condition, index, id = model.encode([Prompt("1")]), torch.tensor([0]), torch.tensor([3])
    one = Continued(policy, torch.zeros(1, 3, 1, 2, 1), 1)
    first, second, again = (
        each.sample(condition, index, id, id, rng=Rng("test"), record=False).sample
        for each in (one, replace(one, part=2), replace(one, known=torch.ones(1, 3, 1, 2, 1)))
    )
    plain = policy.sample(condition, index, id, id, rng=Rng("test").child("part", 1), record=False).sample
    torch.testing.assert_close(first[:, :, 1:], plain[:, :, 1:], atol=0, rtol=0)
    torch.testing.assert_close(again[:, :, 1:], plain[:, :, 1:], atol=0, rtol=0)
    assert not torch.equal(first[:, :, 1:], second[:, :, 1:])
