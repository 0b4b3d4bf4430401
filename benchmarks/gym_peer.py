"""A peer we did not write learns the same: stable-baselines3's PPO on the o1 oracle, beside limner's Flow-GRPO.

    python benchmarks/gym_peer.py [--seeds 5] [--out docs/results]

Both maximise E[r] - w sum KL(step || the base's step), whose best value is known (`limner.bench.exact`): SB3's PPO by
the environment's cost of actions and an entropy bonus of the same weight, ours by its penalty. Writes gym_peer.json:
for each seed and method the share of the best value, exact for ours, and from 2,000 episodes for the peer.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from limner.bench import exact
from limner.bench.oracles import ENTRIES, curve
from limner.core.types import Prompt
from limner.diffusion.dynamics import FlowSDE
from limner.environments.denoising import DenoisingEnv
from limner.objectives.tilt import Quadratic
from limner.policies.denoising import Denoising, Sampler
from limner.report.file import write_text
from limner.worlds.oracle.model import Oracle
from limner.worlds.oracle.reward import o1
from limner.worlds.oracle.world import WORLDS

WEIGHT = 0.3
STEPS = 10
DECISIONS = STEPS - 1
EPISODES = 2000


def main() -> None:
    """Train both, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--decisions", type=int, default=150_000, help="of the peer")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    best = best_value()
    entry = ENTRIES["Flow-GRPO, KL 0.3"]
    ours = [curve(entry, "o1", seed=seed, points=1)[-1].objective or 0.0 for seed in range(options.seeds)]
    peer = [peer_value(seed, options.decisions) / best for seed in range(options.seeds)]
    found = {"best value": best, "limner Flow-GRPO": describe(ours), "stable-baselines3 PPO": describe(peer)}
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out / "gym_peer.json", text + "\n")


def base() -> Denoising:
    """Return the base policy of the o1 oracle."""
    model = Oracle.load("o1")
    return Sampler(FlowSDE(), STEPS).policy(model)


def best_value() -> float:
    """Return the most that E[r] - WEIGHT sum KL can exceed the base's E[r] by."""
    policy = base()
    policy.model.networks["residual"].double()
    reward = Quadratic(*(part.double() for part in WORLDS["o1"].reward))
    with torch.no_grad():
        chain = exact.steps(policy)
        return float(exact.best_objective(chain, reward, WEIGHT) - reward.mean(exact.drawn(chain)))


def peer_value(seed: int, decisions: int) -> float:
    """Train SB3's PPO, and return E[r] - WEIGHT sum KL of it, from fresh episodes; the base's E[r] is 0."""
    torch.set_num_threads(1)

    def make() -> DenoisingEnv:
        return DenoisingEnv(base(), o1, Prompt("a point"), action_weight=WEIGHT)

    agent = PPO(
        "MlpPolicy",
        make_vec_env(make, n_envs=8, seed=seed),
        learning_rate=lambda left: 1e-3 * left,
        n_steps=DECISIONS * 32,
        batch_size=256,
        n_epochs=5,
        gamma=1.0,
        ent_coef=WEIGHT,
        normalize_advantage=False,
        policy_kwargs={"net_arch": [32, 32]},
        seed=seed,
        device="cpu",
    )
    agent.learn(decisions)
    env, values = make(), []
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=10**6 * (seed + 1) + episode)
        value, done = 0.0, False
        while not done:
            with torch.no_grad():
                normal = agent.policy.get_distribution(torch.from_numpy(observation)[None]).distribution
            assert isinstance(normal, torch.distributions.Normal)
            kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum()
            action = normal.sample()[0].numpy()
            observation, reward, done, _, _ = env.step(action)
            value += reward + WEIGHT * float(np.square(action).sum()) / 2 - WEIGHT * float(kl)
        values.append(value)
    return statistics.mean(values)


def describe(shares: list[float]) -> dict[str, object]:
    """Return the shares of the best value: mean, and the interval of the mean over seeds (Student's t, 95 %)."""
    from scipy.stats import t

    mean = statistics.mean(shares)
    half = t.ppf(0.975, len(shares) - 1) * statistics.stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4), "seeds": shares}


if __name__ == "__main__":
    main()
