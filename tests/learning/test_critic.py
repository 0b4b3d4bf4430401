"""The critic learns conditional means, survives its memory, and sees latents of any shape."""

from __future__ import annotations

import torch

from limner.core.rng import Rng
from limner.learning.critic import Critic, critic_features
from limner.policies.plan import Noisy


def test_it_learns_the_mean_reward_of_a_state():
    """E[reward | x] = 3 + 2 sign(x_0), with noise of std 1."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 4, generator=generator)
    expected = 3 + 2 * x[:, 0].sign()
    rewards = expected + torch.randn(2000, generator=generator)
    critic = Critic.load({}, x, rewards, 1e-3)
    assert torch.allclose(critic.values(x), rewards.mean().expand(2000))  # at first it expects the mean
    critic.fit(x, rewards, 150, Rng(("fit",)))
    clear = x[:, 0].abs() > 0.3
    assert (critic.values(x) - expected)[clear].square().mean() < 0.15 * expected.var()


def test_memory_keeps_all_of_it():
    """Fitted in one go, or put into memory half way: the same critic."""
    x, rewards = 5 + 3 * torch.randn(64, 3, generator=torch.Generator().manual_seed(0)), torch.arange(64.0)
    whole = Critic.load({}, x, rewards, 1e-3)
    whole.fit(x, rewards, 5, Rng((1,)))
    memory: dict = {}
    whole.save(memory)
    again = Critic.load(memory, x * 0, rewards * 0 - 7, 1e-3)
    for critic in (whole, again):
        critic.fit(x, rewards, 5, Rng((2,)))
    assert torch.equal(whole.values(x), again.values(x))
    assert torch.equal(memory["critic"]["network"]["0.weight"], again.network[0].weight) is False


def test_features_of_any_shape():
    condition = {"text": torch.arange(3 * 5 * 60.0).reshape(3, 5, 60), "mask": torch.ones(3, 5, dtype=torch.bool)}
    index = torch.tensor([2, 0])
    state = Noisy(torch.ones(2, 4, 32, 32), torch.tensor([0.0, 1.0]), torch.zeros(2)).features()
    image = critic_features(state, condition, index)
    assert image.shape == (2, 512 + 4 + 128)
    torch.testing.assert_close(image[:, 512:516], torch.tensor([[1.0, 1, 1, 1], [1.0, -1, 1, -1]]))
    assert image[0, 516:].mean() > image[1, 516:].mean()
    scalar = critic_features([torch.tensor([0.3, 0.4])], {"word": torch.zeros(3, dtype=torch.long)}, index)
    torch.testing.assert_close(scalar[:, 0], torch.tensor([0.3, 0.4]))
