"""Denoising as a Gymnasium environment: the state is x_t, the action the noise that decides x_s.

An episode is one sample. In state (x_t, t) the base policy's step is x_s = mean(x_t, t) + std n with n ~ N(0, I); here
n is the action. So the agent whose actions are standard normal draws from the base, and one whose actions are
N(u, I) pays KL = |u|^2 / 2 nats for the step. The last step, deterministic, is taken by the environment. The reward is
that of the finished sample, less `action_weight` |n|^2 / 2 for every action n: with as much weight on the entropy of
the agent's policy, what it maximises is E[r] - action_weight sum KL(agent's step || base's step).

Source: denoising as a decision process, DDPO, arXiv:2305.13301, section 4.2.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limner.core.protocols import Reward
from limner.core.tree import tree_map
from limner.core.types import Prompt, RewardOutput
from limner.diffusion.gaussian import Gaussian
from limner.policies.denoising import Denoising

BOUND = 10.0
"""Actions are cut at ten standard deviations, and observations declared within a hundred."""


class DenoisingEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One sample of one prompt, decision by decision.

    An observation is x_t, flat, and after it t. `policy` is the base: stochastic dynamics and no window.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        policy: Denoising,
        reward: Reward,
        prompt: Prompt,
        action_weight: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        if not policy.sampler.dynamics.stochastic or policy.sampler.window:
            raise ValueError("the base needs stochastic dynamics and no window: every step but the last is a decision")
        self.policy, self.reward, self.prompt, self.action_weight = policy, reward, prompt, action_weight
        self.render_mode = render_mode
        self.latent = policy.model.latent()
        self.observation_space = spaces.Box(-100.0, 100.0, (self.latent.size + 1,), np.float32)
        self.action_space = spaces.Box(-BOUND, BOUND, (self.latent.size,), np.float32)
        with torch.no_grad():
            self.condition = policy.model.encode([prompt])
        self.times = policy.times()
        self.x = self._placed(np.zeros(self.latent.shape, np.float32))
        self.index = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin with noise, N(0, I)."""
        super().reset(seed=seed)
        self.x, self.index = self._placed(self.np_random.standard_normal(self.latent.shape, np.float32)), 0
        return self._observation(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take the base's step with `action` as its noise; after the last decision finish the sample and judge it."""
        noise = self._placed(action)
        self.x = self._gaussian().sample(noise)
        self.index += 1
        reward = -self.action_weight * float(noise.square().sum()) / 2
        done = self.index == self.policy.sampler.steps - 1
        if done:
            self.x = self._gaussian(last=True).mean
            self.index += 1
            reward += self._judged()
        return self._observation(), reward, done, False, {}

    def render(self) -> NDArray[np.uint8]:
        """Return what x_t shows, [height, width, 3]."""
        with torch.no_grad():
            return self.policy.model.decode(self.x).stills()[0].permute(1, 2, 0).cpu().numpy()

    def _placed(self, numbers: NDArray[np.float32]) -> Float[Tensor, "1 *latent"]:
        """Return them as one latent, where latents live."""
        latent = torch.from_numpy(np.asarray(numbers, np.float32)).reshape(1, *self.latent.shape)
        return latent.to(self.latent.device, self.latent.dtype)

    def _gaussian(self, last: bool = False) -> Gaussian:
        span = self.times[self.index].expand(1).to(self.x), self.times[self.index + 1].expand(1).to(self.x)
        with torch.no_grad():
            first, decides = torch.zeros(1, dtype=torch.long, device=self.latent.device), torch.tensor([not last])
            return self.policy.step(self.x, span, self.condition, first, decides)[1]

    def _judged(self) -> float:
        with torch.no_grad():
            shown = tree_map(Tensor.cpu, self.policy.model.decode(self.x).rounded())
            answer = self.reward(shown, [self.prompt])
        score = answer.score if isinstance(answer, RewardOutput) else torch.as_tensor(answer)
        return float(score[0])

    def _observation(self) -> NDArray[np.float32]:
        flat: Float[Tensor, " numbers"] = torch.cat([self.x.flatten().float().cpu(), self.times[self.index, None]])
        return flat.clamp(-100, 100).numpy()
