"""o4 of a masked model, all 24 orders of all 256 sequences: probabilities from the table's numbers, in float64."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from limner.policies.masked import MASKED, MaskedSampler
from limner.worlds.oracle.tokens import CODES, LENGTH, TokenOracle

ORDERS = list(itertools.permutations(range(LENGTH)))


def written_after(sampler: MaskedSampler) -> list[int]:
    """How many places are written after each step, by the formula."""
    share = [
        math.cos(math.pi * k / (2 * sampler.steps)) if sampler.schedule == "cosine" else 1 - k / sampler.steps
        for k in range(1, sampler.steps + 1)
    ]
    counts = [LENGTH - math.floor(LENGTH * each + 1e-9) for each in share[:-1]] + [LENGTH]
    for k in range(sampler.steps):
        counts[k] = max(counts[k], k + 1)
    return counts


class Enumeration:
    """Probabilities of paths from the table's numbers, and nothing of the policy."""

    def __init__(self, model: TokenOracle, sampler: MaskedSampler) -> None:
        table = model.networks["table"]
        self.given, self.prompt, self.sampler = table.given.double().tolist(), table.prompt.double().tolist(), sampler
        self.codes = cache(self._codes)

    def _codes(self, state: tuple[int, ...], place: int) -> list[float]:
        row = 0
        for token in state:
            row = (CODES + 1) * row + token + 1
        c, u = ([self.given[row][place][k] + self.prompt[i][k] for k in range(CODES)] for i in (0, 1))
        scale, temperature = self.sampler.guidance, self.sampler.temperature
        weights = [math.exp((b + scale * (a - b)) / temperature) for a, b in zip(c, u, strict=True)]
        return [weight / sum(weights) for weight in weights]

    def score(self, state: tuple[int, ...], place: int) -> float:
        if self.sampler.order == "random":
            return 1.0
        entropy = -sum(p * math.log(p) for p in self.codes(state, place))
        return math.exp(-entropy / self.sampler.order_temperature)

    def path(self, order: tuple[int, ...], tokens: tuple[int, ...]) -> float:
        """The probability that these tokens are written in this order."""
        found, start, state = 1.0, 0, [MASKED] * LENGTH
        for stop in written_after(self.sampler):
            seen = tuple(state)
            for i in range(start, stop):
                open_places = [j for j in range(LENGTH) if j not in order[:i]]
                found *= self.score(seen, order[i]) / sum(self.score(seen, j) for j in open_places)
                found *= self.codes(seen, order[i])[tokens[order[i]]]
                state[order[i]] = tokens[order[i]]
            start = stop
        return found

    def density(self) -> Tensor:
        """The probability of each order of each sequence."""
        every = itertools.product(range(CODES), repeat=LENGTH)
        return torch.tensor([[self.path(order, tokens) for order in ORDERS] for tokens in every], dtype=torch.float64)

    def log_density(self, rollout: Any) -> Tensor:
        """The log-probability of each path that was drawn."""
        orders, every = rollout.path.choices[..., 0].tolist(), rollout.sample.tolist()
        paths = [self.path(tuple(order), tuple(tokens)) for order, tokens in zip(orders, every, strict=True)]
        return torch.tensor(paths, dtype=torch.float64).log()


def moved(model: TokenOracle, by: float = 0.3) -> TokenOracle:
    """The model after its weights have moved at random."""
    with torch.no_grad():
        for parameter in model.networks["table"].parameters():
            parameter += by * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7))
    return model
