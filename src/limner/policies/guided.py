"""Classifier-free guidance: what a network says of a prompt, led away from what it says of the empty prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.tree import leaves
from limner.core.types import Condition


@runtime_checkable
class Guiding(Protocol):
    """A sampler that guides: by one scale where it draws, and by that or another one in updates."""

    @property
    def guidance(self) -> float:
        """The scale of classifier-free guidance by which samples are drawn; 1: none."""
        ...

    @property
    def guidance_of_updates(self) -> float:
        """That by which what is learned from is seen in updates."""
        ...


@runtime_checkable
class Rescaling(Protocol):
    """A denoiser whose own pipeline does not go on with a guided prediction as it is."""

    def rescaled(
        self, guided: Float[Tensor, "batch *latent"], with_prompt: Float[Tensor, "batch *latent"]
    ) -> Float[Tensor, "batch *latent"]:
        """Return what it goes on with, given also the prediction with the prompt alone."""
        ...


def guided(
    network: Callable[..., Tensor],
    scale: float,
    states: tuple[Tensor, ...],
    condition: Condition,
    prompt_index: Int[Tensor, " batch"],
    rescaled: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Float[Tensor, "batch *said"]:
    """Return u + scale (c - u): c = network(*states, condition, prompt_index), u of the empty prompt, in one pass.

    scale = 1 is the prompt alone, and u is not paid for. Gradients flow through both. Guidance is linear, and so the
    same in any prediction of a denoiser; of tokens it is that of logits. What it gives may be `rescaled` by c.
    Source: Ho and Salimans, arXiv:2207.12598, eq. 6 with scale = 1 + w.
    """
    if scale == 1:
        return network(*states, condition, prompt_index)
    twice = (torch.cat([state, state]) for state in states)
    both = network(*twice, condition, with_empty(condition, prompt_index))
    return led(both, scale) if rescaled is None else rescaled(led(both, scale), both.chunk(2)[0])


def with_empty(condition: Condition, prompt_index: Int[Tensor, " batch"]) -> Int[Tensor, " twice"]:
    """Return the rows of the prompts, and then as often that of the empty or negative one, the last."""
    return torch.cat([prompt_index, torch.full_like(prompt_index, next(leaves(condition)).shape[0] - 1)])


def led(both: Float[Tensor, "twice *said"], scale: float) -> Float[Tensor, "batch *said"]:
    """Return u + scale (c - u), for c and u one after the other."""
    with_prompt, without = both.chunk(2)
    return without + scale * (with_prompt - without)
