"""The road from classical control to denoising: four policy gradients balance a pole by limner's own objectives.

    python examples/control.py [--seeds 5] [--out docs/results]

Each of them draws 16 episodes of CartPole an iteration and takes its step from them:

    REINFORCE      L = -A log p,  A the standardised return to go                 `group_advantage`
    actor-critic   L = -A log p,  A from a critic                                 `generalised_advantage`, `Critic`
    PPO            L = max(-A rho, -A clip(rho)), four passes                     `clipped_surrogate`
    TRPO           the natural gradient of E[A rho] within a KL                   `conjugate_gradient`

What changes on the way to an image is the decision and nothing else: there the state is (x_t, t, prompt), the action
the next latent, the policy's distribution a Gaussian around a network's step, and the reward comes at the end. Compare
`algorithms/ddpo.py`, `ppo.py` and `trpo.py`. Writes control.json and control.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import matplotlib
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from limner.core.rng import Rng
from limner.learning.critic import Critic
from limner.objectives.advantage import generalised_advantage
from limner.objectives.natural import conjugate_gradient
from limner.objectives.surrogate import clipped_surrogate
from limner.report.file import write_text

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

EPISODES, ITERATIONS, DISCOUNT, DECAY = 16, 40, 0.99, 0.95


@dataclass(frozen=True)
class Episodes:
    """Equally long, padded; `alive` marks the decisions that were made, and rewards are 0 after them."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    alive: Tensor


class Learner:
    """A policy over two actions, a critic, and how the first learns from episodes."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.network = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-2)
        self.memory: dict[str, object] = {}

    def log_prob(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return log p(action | state)."""
        return self.network(states).log_softmax(-1).gather(-1, actions[..., None])[..., 0]

    def descend(self, loss: Callable[[], Tensor], passes: int = 1) -> None:
        """Take optimizer steps on a loss."""
        for _ in range(passes):
            self.optimizer.zero_grad()
            loss().backward()
            self.optimizer.step()

    def critic_advantage(self, episodes: Episodes, rng: Rng) -> Tensor:
        """Return GAE's advantage of the decisions that were made, standardised; then teach the critic."""
        alive = episodes.alive
        features = episodes.states[alive]
        returns = to_go(episodes)[alive]
        critic = Critic.load(self.memory, features, returns, 3e-3)
        values = torch.zeros(alive.shape[0], alive.shape[1] + 1)
        values[:, :-1][alive] = critic.values(features)
        found = generalised_advantage(values, episodes.rewards, DECAY, DISCOUNT)[alive]
        critic.fit(features, values[:, :-1][alive] + found, 40, rng)
        critic.save(self.memory)
        return (found - found.mean()) / (found.std() + 1e-8)


def reinforce(learner: Learner, episodes: Episodes, rng: Rng) -> None:
    """Follow A grad log p, with the return to go less its mean at that step over the episodes that got there."""
    alive, returns = episodes.alive, to_go(episodes)
    count = alive.sum(0).clamp(min=1)
    centred = (returns - (returns * alive).sum(0) / count) * alive
    advantage = (centred / (centred[alive].std() + 1e-8))[alive]
    states, actions = episodes.states[alive], episodes.actions[alive]
    learner.descend(lambda: -(advantage * learner.log_prob(states, actions)).mean())


def actor_critic(learner: Learner, episodes: Episodes, rng: Rng) -> None:
    """Follow A grad log p, with the critic's advantage."""
    advantage = learner.critic_advantage(episodes, rng)
    states, actions = episodes.states[episodes.alive], episodes.actions[episodes.alive]
    learner.descend(lambda: -(advantage * learner.log_prob(states, actions)).mean())


def ppo(learner: Learner, episodes: Episodes, rng: Rng) -> None:
    """Four passes over the same episodes, as far as the clip lets them."""
    advantage = learner.critic_advantage(episodes, rng)
    states, actions = episodes.states[episodes.alive], episodes.actions[episodes.alive]
    old = learner.log_prob(states, actions).detach()
    learner.descend(
        lambda: clipped_surrogate(learner.log_prob(states, actions) - old, advantage, 0.2, 0.2).mean(), passes=4
    )


def trpo(learner: Learner, episodes: Episodes, rng: Rng, limit: float = 0.01) -> None:
    """Go along the natural gradient until the KL is `limit`, or less if the surrogate does not improve."""
    advantage = learner.critic_advantage(episodes, rng)
    states, actions = episodes.states[episodes.alive], episodes.actions[episodes.alive]
    parameters = list(learner.network.parameters())
    old, before = learner.log_prob(states, actions).detach(), learner.network(states).log_softmax(-1).detach()

    def surrogate() -> Tensor:
        return (advantage * (learner.log_prob(states, actions) - old).exp()).mean()

    def divergence() -> Tensor:
        return (before.exp() * (before - learner.network(states).log_softmax(-1))).sum(-1).mean()

    def gradient(value: Tensor, differentiable: bool = False) -> Tensor:
        parts = torch.autograd.grad(value, parameters, create_graph=differentiable)
        return torch.cat([part.reshape(-1) for part in parts])

    def fisher(x: Tensor) -> Tensor:
        return gradient(gradient(divergence(), True) @ x) + 1e-3 * x

    direction = conjugate_gradient(fisher, gradient(surrogate()), 10)
    step = (2 * limit / (direction @ fisher(direction))).sqrt() * direction
    start, value = parameters_to_vector(parameters).detach().clone(), float(surrogate())
    with torch.no_grad():
        for halving in range(10):
            vector_to_parameters(start + 0.5**halving * step, parameters)
            if surrogate() > value and divergence() <= limit:
                return
        vector_to_parameters(start, parameters)


METHODS = {"REINFORCE": reinforce, "actor-critic": actor_critic, "PPO": ppo, "TRPO": trpo}


def to_go(episodes: Episodes) -> Tensor:
    """Return the discounted sum of the rewards from each decision on."""
    nothing = torch.zeros(episodes.rewards.shape[0], episodes.rewards.shape[1] + 1)
    return generalised_advantage(nothing, episodes.rewards, 1.0, DISCOUNT)


def play(learner: Learner, environments: gymnasium.vector.VectorEnv, rng: Rng) -> Episodes:
    """Return one episode of each environment."""
    state, _ = environments.reset(seed=rng.seed() % 2**31)
    generator, alive = rng.generator(), np.ones(EPISODES, dtype=bool)
    rows = []
    while alive.any():
        states = torch.from_numpy(state).float()
        with torch.no_grad():
            action = torch.multinomial(learner.network(states).softmax(-1), 1, generator=generator)[:, 0]
        state, reward, over, cut, _ = environments.step(action.numpy())
        rows.append((states, action, torch.from_numpy(reward * alive).float(), torch.from_numpy(alive.copy())))
        alive &= ~(over | cut)
    return Episodes(*(torch.stack(column, 1) for column in zip(*rows, strict=True)))


def run(name: str, seed: int) -> list[float]:
    """Return the mean return of each iteration."""
    learner, returns = Learner(seed), []
    environments = gymnasium.make_vec("CartPole-v1", num_envs=EPISODES, vectorization_mode="sync")
    for iteration in range(ITERATIONS):
        rng = Rng((name, seed, iteration))
        episodes = play(learner, environments, rng.child("play"))
        returns.append(float(episodes.rewards.sum(1).mean()))
        METHODS[name](learner, episodes, rng.child("learn"))
    return returns


def main() -> None:
    """Run all, write the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    found: dict[str, list[list[float]]] = {}
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name in METHODS:
        found[name] = [run(name, seed) for seed in range(options.seeds)]
        curves = torch.tensor(found[name])
        print(f"{name}: {curves[:, -5:].mean():.0f} over the last five iterations", flush=True)
        (line,) = axes.plot(range(1, ITERATIONS + 1), curves.mean(0), label=name)
        axes.fill_between(range(1, ITERATIONS + 1), curves.amin(0), curves.amax(0), alpha=0.15, color=line.get_color())
    axes.set(xlabel=f"iteration, {EPISODES} episodes each", ylabel="return (mean and range over seeds)", ylim=(0, 510))
    axes.grid(alpha=0.3)
    axes.legend()
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "control.png", dpi=110)
    write_text(options.out / "control.json", json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
