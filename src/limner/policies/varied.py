"""Denoising that goes on from given samples, noised again part of the way: others that move alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.rng import Rng
from limner.core.types import Condition, Sampled
from limner.diffusion.schedule import add_noise
from limner.policies.denoising import Denoising


@dataclass(frozen=True)
class Varied:
    """Noises the samples `start` to the time of the policy's grid that is nearest to `level`, and follows the ODE on.

    The nearer `level` is to 1, the less of `start` is left. Each sample has a noise of its own.
    Source: guided paired generation, DenseDPO, arXiv:2506.03517, algorithm 2, there of real clips; SDEdit,
    arXiv:2108.01073.
    """

    policy: Denoising
    level: float
    start: Float[Tensor, "batch *latent"]

    def at(self, iteration: int) -> Varied:
        """Return it as it samples in `iteration`."""
        return replace(self, policy=self.policy.at(iteration))

    def sample(
        self,
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
        group: Int[Tensor, " batch"],
        id: Int[Tensor, " batch"],
        *,
        rng: Rng,
        record: bool,
    ) -> Sampled:
        """Draw a sample for each of `start`. There are no decisions: nothing is recorded."""
        times = self.policy.times()
        begin = int((times[:-1] - self.level).abs().argmin())
        spec = self.policy.model.latent()
        start, times = self.start.to(spec.device, spec.dtype), times.to(spec.device, spec.dtype)
        prompt_index, nobody = prompt_index.to(spec.device), torch.zeros(len(id), dtype=torch.bool)
        noise = rng.child("varied").normal(id, spec.shape).to(start)
        x = add_noise(self.policy.model.schedule, start, noise, times[begin].expand(len(id)))
        before = None
        for t, s in zip(times[begin:-1], times[begin + 1 :], strict=True):
            span = (t.expand(len(id)), s.expand(len(id)))
            estimate, found = self.policy.step(x, span, condition, prompt_index, nobody, before)
            x, before = found.mean, (span[0], estimate)
        return Sampled(x, None)
