"""A judge's stand-in that has a gradient: a small network learns what samples of a prompt are worth.

It sees finished samples as the generator makes them, latents, and prompts as it reads them, so that no judge and no
decoder need be differentiable. It is where they are, and learns from the samples of the last iterations. It is no
surrogate objective, such as PPO's (`objectives/surrogate.py`): it stands for the reward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from limner.core.rng import Rng
from limner.core.tree import leaves, tree_map
from limner.core.types import Condition

PLACES, TEXT = 256, 4096
"""Most places of a sample, and numbers of each part of a condition, that it sees; more are means of neighbours."""
BATCH = 256


class Network(nn.Module):
    """S(x, c): what it reads in c is added to each place of x, and places see each other in a transformer's blocks."""

    def __init__(self, channels: int, places: int, text: int, width: int, layers: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(places, width) / 5)
        self.enter = nn.Linear(channels, width)
        self.reads = nn.Sequential(nn.Linear(text, width), nn.SiLU(), nn.Linear(width, width))
        block = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.worth = nn.Sequential(nn.Linear(places * width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(
        self, x: Float[Tensor, "batch places channels"], text: Float[Tensor, "batch text"]
    ) -> Float[Tensor, " batch"]:
        """Return S(x, c)."""
        seen = self.blocks(self.enter(x) + self.places + self.reads(text)[:, None])
        return self.worth(self.norm(seen).flatten(1))[:, 0]


@dataclass(frozen=True)
class Fitting:
    """How a surrogate learns: `steps` of least squares an iteration, on what `keep` iterations have shown it.

    Samples have noise of std `noise` on them, without which it would know them one by one.
    """

    lr: float
    steps: int
    keep: int
    noise: float
    width: int = 128
    layers: int = 2


class Surrogate:
    """What samples are worth, in standard deviations of the rewards that it saw first.

    It lives in an algorithm's memory: `load` makes it from there, or anew, and `save` puts it back.
    Source: a surrogate reward that is learned along, TDM-R1, arXiv:2603.07700, section 4, there by comparisons within
    groups, and of all states of a path.
    """

    def __init__(self, scale: dict[str, float], kept: list[dict[str, Tensor]], how: Fitting) -> None:
        self.scale, self.kept, self.how = scale, kept, how
        x, text = kept[0]["x"], kept[0]["text"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            places, channels = placed(x[:1].float()).shape[1:]
            self.network = Network(channels, places, text.shape[1], how.width, how.layers).to(x.device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), how.lr, betas=(0.9, 0.99))

    @classmethod
    def load(
        cls,
        memory: dict[str, Any],
        x: Float[Tensor, "batch *latent"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
        rewards: Float[Tensor, " batch"],
        how: Fitting,
    ) -> Surrogate:
        """Return the surrogate that `memory` holds, or a new one, and have it keep what these samples earned.

        What is kept is in half precision, and rewards less the mean, over the standard deviation, of the first.
        """
        told = memory.get("surrogate", {"kept": [], "scale": None})
        spread = float(rewards.std(correction=0).clamp(min=1e-6))
        scale = told["scale"] or {"mean": float(rewards.mean()), "std": spread}
        shown = {"x": x.half(), "text": read(condition).half(), "index": prompt_index.to(x.device)}
        shown["reward"] = ((rewards - scale["mean"]) / scale["std"]).to(x.device, torch.float32)
        kept = tree_map(lambda each: each.to(x.device), told["kept"])
        surrogate = cls(scale, [*kept, shown][-how.keep :], how)
        if not kept:
            return surrogate
        surrogate.network.load_state_dict(told["network"])
        surrogate.optimizer.load_state_dict(told["optimizer"])
        return surrogate

    def save(self, memory: dict[str, Any]) -> None:
        """Put a copy of everything into `memory`."""
        learnt = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        memory["surrogate"] = {"scale": self.scale, "kept": self.kept} | deepcopy(learnt)

    def order(self, group: Int[Tensor, " batch"]) -> float:
        """Return the share of the pairs of a group, of the last samples, that it orders as their rewards do.

        Asked before `fit`, of samples that it has not learned from; .5 is chance, and what it says of no pair.
        """
        told, reward = self.worth(), self.kept[-1]["reward"]
        apart = reward[:, None] - reward
        pairs = (group.to(reward.device)[:, None] == group.to(reward.device)) & (apart > 0)
        right = (told[:, None] > told) & pairs
        return float(right.sum() / pairs.sum()) if bool(pairs.any()) else 0.5

    def fit(self, rng: Rng) -> None:
        """Learn: half of each batch is of all that is kept, and half of the last quarter of it."""
        generator, (x, text, reward) = rng.generator(), self._together()
        for _ in range(self.how.steps):
            anywhere = torch.randint(len(x), (BATCH // 2,), generator=generator)
            lately = torch.randint(len(x) * 3 // 4, len(x), (BATCH - BATCH // 2,), generator=generator)
            rows = torch.cat([anywhere, lately]).to(x.device)
            noise = torch.randn(BATCH, *x.shape[1:], generator=generator).to(x.device)
            told = self.network(placed(x[rows].float() + self.how.noise * noise), text(rows))
            loss = (told - reward[rows]).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def gradient(self) -> Float[Tensor, "batch *latent"]:
        """Return dS/dx at the last samples."""
        parts: list[Tensor] = []
        for x, text in self._last():
            parts += torch.autograd.grad(self.network(placed(x.requires_grad_()), text).sum(), x)
        return torch.cat(parts)

    @torch.no_grad()
    def worth(self) -> Float[Tensor, " batch"]:
        """Return S of the last samples."""
        return torch.cat([self.network(placed(x), text) for x, text in self._last()])

    def _last(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the last samples and what was read of their prompts, a batch at a time."""
        last = self.kept[-1]
        for x, index in zip(last["x"].split(BATCH), last["index"].split(BATCH), strict=True):
            yield x.float(), last["text"][index].float()

    def _together(self) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor]:
        """Return all samples that are kept, what was read of the prompts of some of them, and all rewards."""
        lengths = [0, *accumulate(len(each["text"]) for each in self.kept)]
        texts = torch.cat([each["text"] for each in self.kept])
        index = torch.cat([each["index"] + first for each, first in zip(self.kept, lengths, strict=False)])
        x, reward = (torch.cat([each[key] for each in self.kept]) for key in ("x", "reward"))
        return x, lambda rows: texts[index[rows]].float(), reward


def placed(x: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch places channels"]:
    """Return samples as places: of pictures and clips 2 x 2 numbers of each channel, where their sides are even."""
    if x.ndim < 3:
        return x.reshape(len(x), 1, -1)
    if x.ndim > 3 and x.shape[-1] % 2 == 0 and x.shape[-2] % 2 == 0:
        x = functional.pixel_unshuffle(x.movedim(1, -3), 2).movedim(-3, 1)
    x = x.flatten(2)
    return (functional.adaptive_avg_pool1d(x, PLACES) if x.shape[2] > PLACES else x).transpose(1, 2)


def read(condition: Condition) -> Float[Tensor, "prompts text"]:
    """Return what is to be read of each prompt: the parts of its encoding, each standardised, in few numbers."""
    parts = []
    for leaf in leaves(condition):
        if leaf.is_floating_point():
            flat = functional.layer_norm(leaf.float(), leaf.shape[-1:]).flatten(1) if leaf.ndim > 1 else leaf[:, None]
            parts.append(functional.adaptive_avg_pool1d(flat[:, None], TEXT)[:, 0] if flat.shape[1] > TEXT else flat)
    return torch.cat(parts, 1).float()
