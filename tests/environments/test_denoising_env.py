"""The environment by Gymnasium's own checker, and against the sampler whose decisions it exposes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.environments.denoising import DenoisingEnv
from limner.policies.denoising import Sampler
from limner.worlds.oracle.model import Oracle, Points
from limner.worlds.oracle.reward import o1
from pretended_cuda import pretended_cuda
from toys import toy_denoiser


def base(steps=6):
    model = Oracle.load("o1")
    return Sampler(FlowSDE(), steps).policy(model)


def test_gymnasium_has_nothing_to_say(recwarn):
    check_env(DenoisingEnv(base(), o1, Prompt("a point"), render_mode="rgb_array"))
    told = [str(w.message) for w in recwarn if "WARN" in str(w.message)]
    assert all("normalized space" in line or "having a spec" in line for line in told), told  # advice, and no error


def test_the_samplers_noise_as_actions_draws_the_samplers_sample():
    policy, index = base(), torch.zeros(1, dtype=torch.long)
    env = DenoisingEnv(policy, o1, Prompt("a point"), action_weight=0.1)
    nothing, seen = {"nothing": torch.zeros(2)}, []
    drawn = policy.sample(nothing, index, index, index, rng=Rng((3,)), record=False, watch=seen.append).sample
    noise = Rng((3,)).child("noise").normal(index, (6, 2))[0].numpy()
    env.reset(seed=0)
    env.x = torch.from_numpy(noise[:1])
    total, done = 0.0, False
    for action in noise[1:]:
        assert not done
        observation, reward, done, cut, _ = env.step(action)
        step = seen[env.index - 1]
        np.testing.assert_array_equal(observation, [*step.choice[0].tolist(), step.s.item()])
        total += reward
    assert done and not cut and observation[-1] == 0
    torch.testing.assert_close(torch.from_numpy(observation[:2]), drawn[0].detach())
    expected = float(o1(Points(drawn), [Prompt("")])[0]) - 0.1 * float(np.square(noise[1:]).sum()) / 2
    assert total == pytest.approx(expected, rel=1e-5)


def test_on_an_accelerator_it_is_the_same():
    def episode(device):
        model = Oracle.load("o1", device)
        env = DenoisingEnv(Sampler(FlowSDE(), 3).policy(model), o1, Prompt("a point"))
        first, _ = env.reset(seed=1)
        steps = [env.step(np.array([0.5, -0.5], np.float32)) for _ in range(2)]
        return [*first, *(x for observation, reward, *_ in steps for x in (*observation, reward)), env.render().mean()]

    expected = episode(torch.device("cpu"))
    with pretended_cuda() as cuda:
        assert episode(cuda) == pytest.approx(expected, rel=1e-6)


def test_any_latent_and_any_prompt():
    env = DenoisingEnv(Sampler(FlowSDE(), 3).policy(toy_denoiser(3)), lambda media, prompts: [2.5], Prompt("1"))
    observation, _ = env.reset(seed=1)
    assert observation.shape == (13,) and observation[-1] == 1 and env.render().shape == (2, 2, 3)
    _, first, done, *_ = env.step(env.action_space.sample())
    _, second, finished, *_ = env.step(env.action_space.sample())
    assert (first, done, second, finished) == (0.0, False, 2.5, True)


def test_a_base_that_decides_nothing_is_refused():
    with pytest.raises(ValueError, match="needs stochastic dynamics"):
        DenoisingEnv(Sampler(EulerODE(), 3).policy(toy_denoiser(1)), o1, Prompt("1"))
