"""Randomness that depends on (seed, purpose, step, sample) and on nothing else.

A stream is named, not consumed: the numbers of sample 17 at step 3 are the same for any micro-batch size, rank count,
order of work, and after a resume.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Rng:
    """A named stream of random numbers; `child` names a sub-stream."""

    key: tuple[int | str, ...]

    def child(self, *names: int | str) -> Rng:
        """Return the stream named `names` below this one."""
        return Rng((*self.key, *names))

    def seed(self) -> int:
        """Return a 63-bit seed: the first 8 bytes of BLAKE2b over the key."""
        digest = hashlib.blake2b(repr(self.key).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    def generator(self) -> torch.Generator:
        """Return a CPU generator seeded for this stream."""
        return torch.Generator().manual_seed(self.seed())

    def normal(self, ids: Int[Tensor, " batch"], shape: tuple[int, ...]) -> Float[Tensor, "batch *shape"]:
        """Return standard normal noise, one independent stream for each id, float32 on the CPU."""
        rows = [torch.randn(shape, generator=self.child(i).generator()) for i in ids.tolist()]
        return torch.stack(rows) if rows else torch.empty(0, *shape)

    def uniform(self, ids: Int[Tensor, " batch"], shape: tuple[int, ...]) -> Float[Tensor, "batch *shape"]:
        """Return numbers uniform in [0, 1), one independent stream for each id, float32 on the CPU."""
        rows = [torch.rand(shape, generator=self.child(i).generator()) for i in ids.tolist()]
        return torch.stack(rows) if rows else torch.empty(0, *shape)


def fixed_share(name: str) -> float:
    """Return the pseudo-random number in [0, 1) that a name always has: the first 8 bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
