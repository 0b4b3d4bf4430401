"""Splitting the samples of a rollout over optimizer steps."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from limner.core.rng import Rng


def partition(rows: Int[Tensor, " rows"], parts: int, rng: Rng) -> list[Int[Tensor, " part"]]:
    """Split `rows` at random into at most `parts` non-empty parts whose sizes differ by at most one."""
    parts = min(parts, len(rows))
    if parts <= 1:
        return [rows] if len(rows) else []
    shuffled = rows[torch.randperm(len(rows), generator=rng.generator())]
    return [part.sort().values for part in shuffled.tensor_split(parts)]
