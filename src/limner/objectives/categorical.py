"""The categorical distribution of one token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Categorical:
    """p(k) = softmax(logits)_k over the last axis; a token whose logit is -inf cannot be drawn.

    What a sampler recorded has a second axis, the tokens of a sample; it is scored row by row (`Decisions`). Densities,
    ratios and divergences are in nats, in float32 (float64 for float64 logits).
    """

    logits: Float[Tensor, "*batch codes"]

    @property
    def log_probs(self) -> Float[Tensor, "*batch codes"]:
        """The logarithm of the probability of each token."""
        return self.logits.log_softmax(-1)

    def sample(self, uniform: Float[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
        """Return for u in [0, 1) the first token k with p(0) + ... + p(k) > u; never one that has no probability."""
        reached = self.logits.double().softmax(-1).cumsum(-1)
        return (reached <= (uniform.double() * reached[..., -1])[..., None]).sum(-1)

    def log_prob(self, choice: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return log p(choice)."""
        return self.log_probs.gather(-1, choice[..., None])[..., 0]

    def log_ratio(self, old: Categorical, choice: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return log p(choice) - log p_old(choice): exactly 0 for equal logits."""
        return self.log_prob(choice) - old.log_prob(choice)

    def kl(self, other: Categorical) -> Float[Tensor, "*batch"]:
        """Return KL(self || other) = sum_k p(k) (log p(k) - log p_other(k)), over the tokens that have probability.

        Exact, where language models' trainers estimate it from the token that was drawn.
        """
        mine, theirs = self.log_probs, other.log_probs
        there = mine > -torch.inf
        return (mine.exp() * torch.where(there, mine - theirs, 0)).masked_fill(~there, 0).sum(-1)

    def normalised_log_ratio(self, old: Categorical, choice: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return log_ratio + KL(old || self), whose mean over what `old` draws is 0, as that of `Gaussian`'s is.

        Source: GRPO-Guard, arXiv:2510.22319, its centring; a token has no std to scale by.
        """
        return self.log_ratio(old, choice) + old.kl(self)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """Return -sum_k p(k) log p(k)."""
        mine = self.log_probs
        return -(mine.exp() * mine.masked_fill(mine == -torch.inf, 0)).sum(-1)
