"""A learned baseline: the reward to expect of a sample that is in a state, for a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from limner.core.rng import Rng
from limner.core.tree import leaves, select
from limner.core.types import Condition

STATE, PROMPT = 512, 128
"""Numbers of each part of a state, and of a condition, that the critic sees (means over neighbours)."""


def critic_features(
    state: Sequence[Float[Tensor, "batch *numbers"]], condition: Condition, prompt_index: Int[Tensor, " batch"]
) -> Float[Tensor, "batch features"]:
    """Return what a critic sees: the parts of a state, and of the encoded prompt, of any shape, in few numbers each.

    A critic is small, and lives on the CPU.
    """
    parts = [_pooled(part, STATE) for part in state]
    parts += [_pooled(leaf, PROMPT) for leaf in leaves(select(condition, prompt_index)) if leaf.is_floating_point()]
    return torch.cat([part.float().cpu() for part in parts], 1)


class Critic:
    """V = mean + std f(z) with f a perceptron; z are the features, standardised, and mean, std those of the reward.

    Both are standardised by what the critic sees first.

    It lives in an algorithm's memory: `load` makes it from there, or anew, and `save` puts it back.
    Source: PPO, arXiv:1707.06347, eq. 9 without the clip; on denoising states DPOK, arXiv:2305.16381, section 4.3.
    """

    def __init__(self, scales: dict[str, Tensor], lr: float, width: int = 128) -> None:
        self.scales = scales
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            last = nn.Linear(width, 1)
            first, second = nn.Linear(len(scales["centre"]), width), nn.Linear(width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), last)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr)

    @classmethod
    def load(
        cls, memory: dict[str, Any], features: Float[Tensor, "batch features"], rewards: Tensor, lr: float
    ) -> Critic:
        """Return the critic that `memory` holds, or a new one that expects the mean of `rewards` everywhere."""
        if "critic" not in memory:
            first = {"centre": features.mean(0), "spread": features.std(0, correction=0).clamp(min=1e-6)}
            first |= {"mean": rewards.mean(), "std": rewards.std(correction=0).clamp(min=1e-6)}
            return cls(first, lr)
        kept = memory["critic"]
        critic = cls(kept["scales"], lr)
        critic.network.load_state_dict(kept["network"])
        critic.optimizer.load_state_dict(kept["optimizer"])
        return critic

    def save(self, memory: dict[str, Any]) -> None:
        """Put a copy of everything into `memory`."""
        memory["critic"] = deepcopy(
            {
                "scales": self.scales,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def values(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
        """Return V of every state, as precise as the first rewards were, without gradient."""
        with torch.no_grad():
            return self.scales["mean"] + self.scales["std"] * self._standard_value(features).to(self.scales["mean"])

    def fit(
        self, features: Float[Tensor, "batch features"], targets: Float[Tensor, " batch"], steps: int, rng: Rng
    ) -> None:
        """Take `steps` steps of least squares towards `targets`, each on 256 states drawn at random."""
        generator = rng.generator()
        wanted = ((targets - self.scales["mean"]) / self.scales["std"]).float()
        for _ in range(steps):
            rows = torch.randint(len(features), (min(256, len(features)),), generator=generator)
            loss = (self._standard_value(features[rows]) - wanted[rows]).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def _standard_value(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
        return self.network((features - self.scales["centre"]) / self.scales["spread"])[:, 0]


def _pooled(x: Float[Tensor, "batch *any"], size: int) -> Float[Tensor, "batch numbers"]:
    flat = x.detach().reshape(x.shape[0], -1).float()
    return functional.adaptive_avg_pool1d(flat[:, None], size)[:, 0] if flat.shape[1] > size else flat
