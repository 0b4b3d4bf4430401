"""What of an input a number comes from: shares of its parts, which add up to it exactly."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def subsets(parts: int) -> Int[Tensor, "subsets parts"]:
    """Return all subsets of some parts, as 0 and 1: row m holds part i where bit i of m is set."""
    return (torch.arange(2**parts)[:, None] >> torch.arange(parts)) & 1


def shapley(worth: Float[Tensor, "*batch subsets"]) -> Float[Tensor, "*batch parts"]:
    """Return each part's share of worth(all) - worth(none), from the worth of all `subsets`; shares add up to that.

        share_i = sum over S without i of |S|! (k - |S| - 1)! / k! (worth(S and i) - worth(S))

    the mean, over all orders in which parts may come, of what a part adds when it comes. Source: Shapley, 1953, A value
    for n-person games. The unit is that of the worth.
    """
    parts = int(math.log2(worth.shape[-1]))
    held = subsets(parts).bool()
    before = held.sum(1)
    chance = torch.tensor([math.factorial(s) * math.factorial(max(parts - s - 1, 0)) for s in range(parts + 1)])
    chance = chance.to(worth) / math.factorial(parts)
    shares = []
    for part in range(parts):
        without = (~held[:, part]).nonzero()[:, 0]
        added = worth[..., without + 2**part] - worth[..., without]
        shares.append((chance[before[without]].to(worth.device) * added).sum(-1))
    return torch.stack(shares, -1) if shares else worth.new_zeros(*worth.shape[:-1], 0)


def orders(parts: int, pairs: int, generator: torch.Generator) -> Int[Tensor, "orders parts"]:
    """Return orders in which parts come, drawn by chance, and each one reversed: together they vary less."""
    drawn = torch.stack([torch.randperm(parts, generator=generator) for _ in range(pairs)])
    return torch.cat([drawn, drawn.flip(1)])


def prefixes(of: Int[Tensor, "orders parts"]) -> Int[Tensor, "orders prefixes parts"]:
    """Return which parts are there after none, one, two, ... of an order have come, as 0 and 1."""
    place = of.argsort(1)
    return (place[:, None] < torch.arange(of.shape[1] + 1)[:, None]).long()


def shares(
    worth: Float[Tensor, "*batch orders prefixes"], of: Int[Tensor, "orders parts"]
) -> Float[Tensor, "*batch parts"]:
    """Return what each part adds when it comes, the mean over some orders, from the worth of their `prefixes`.

    Shares add up to worth(all) - worth(none), whichever orders these are; over all orders they are `shapley`'s, and
    over orders drawn by chance an unbiased estimate. Source: Castro, Gomez and Tejada, 2009, Polynomial calculation of
    the Shapley value based on sampling.
    """
    added = worth.diff(dim=-1)
    return added.gather(-1, of.argsort(1).to(worth.device).expand(added.shape)).mean(-2)
