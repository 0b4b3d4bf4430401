"""What a learned score comes from: clauses of the prompt, by name, and places of the picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from limner.objectives.attribution import orders, prefixes, shapley, shares, subsets

MOST_CLAUSES = 6
"""Clauses whose shares are told: with each of them twice as many texts are read."""
SIDE = 5
"""Places a side of a map."""
ORDERS = 8
"""Orders in which places come: each takes as many looks as there are places."""
GREY = 0.5
"""What is there instead of a place that is left out."""
BEGINS = re.compile(r"(?<=[,;:.])\s+|\s+(?=(?:and|with|but|an?|the|one|two|three|four|five|\d+)\s)", re.IGNORECASE)
"""Where a clause ends and another begins: after a comma, before a conjunction, an article or a number."""

Score = Callable[[Float[Tensor, "n 3 height width"], Sequence[str]], Float[Tensor, " n"]]
"""What pictures are worth for texts, in nats."""


class Clauses(NamedTuple):
    """A prompt's clauses, what each adds to the score, and the score for a text that says nothing."""

    names: tuple[str, ...]
    shares: Float[Tensor, " clauses"]
    without: float

    def __str__(self) -> str:
        said = "; ".join(f"{share:+.2f} {name}" for name, share in zip(self.names, self.shares.tolist(), strict=True))
        return f"{self.without:+.2f} whatever is asked; {said}"


def clauses(text: str) -> tuple[str, ...]:
    """Return the clauses of a prompt, at most `MOST_CLAUSES`, the last of them longer; of a single one, its words."""
    found = [clause for each in BEGINS.split(text) if (clause := each.strip(" ,;:."))]
    for at in range(len(found) - 1, 0, -1):  # "and", "with": a conjunction goes with what it joins
        if found[at - 1].lower() in ("and", "with", "but"):
            found[at - 1 : at + 1] = [f"{found[at - 1]} {found[at]}"]
    if len(found) < 2:
        found = text.split()
    kept = found[: MOST_CLAUSES - 1]
    return tuple(kept + [" ".join(found[len(kept) :])] * (len(found) > len(kept)))


def by_clause(score: Score, pixels: Float[Tensor, "3 height width"], text: str) -> Clauses:
    """Return the shares of clauses: Shapley values of leaving them out of the text. They add up to the score."""
    names = clauses(text)
    held = subsets(len(names)).tolist()
    texts = [" ".join(name for name, there in zip(names, row, strict=True) if there) for row in held[:-1]] + [text]
    with torch.no_grad():
        worth = score(pixels.expand(len(texts), -1, -1, -1), texts).double()
    return Clauses(names, shapley(worth), float(worth[0]))


def by_place(score: Score, pixels: Float[Tensor, "3 height width"], text: str) -> Float[Tensor, "rows columns"]:
    """Return what each of `SIDE` x `SIDE` places adds to the score over that of a grey picture; they add up to that.

    A place that is not there is grey. The mean over the same orders always, in which places come (`shares`).
    """
    count = SIDE**2
    order = orders(count, ORDERS // 2, torch.Generator().manual_seed(0))
    held = prefixes(order).flatten(0, 1).unflatten(1, (SIDE, SIDE))
    rows, columns = (torch.arange(size) * SIDE // size for size in pixels.shape[-2:])
    there = held[:, rows][:, :, columns].bool()[:, None].to(pixels.device)
    with torch.no_grad():
        worth = score(torch.where(there, pixels, GREY), [text] * len(held)).double()
    return shares(worth.unflatten(0, (len(order), count + 1)), order).unflatten(0, (SIDE, SIDE))
