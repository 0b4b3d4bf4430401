"""What a masked policy on o4 is worth, summed over the 625 ways in which a sequence can be partly written.

With one place a step the way to a partly written sequence does not matter, and values follow backwards:

    V(whole) = r,   V(state) = sum_(j, a) p(j, a | state) (V(state with a at j) - beta log(p / base)(j, a | state))

over open places j and codes a. The KL is that of the decisions. The best value is, in random order, the mean over open
places of beta log sum_a base_j(a) exp(V / beta); in an order that is learned too it is at most that of a free choice of
both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.types import Prompt
from limner.policies.masked import MASKED, Unmasking
from limner.worlds.oracle.tokens import CODES, LENGTH, number

Chances = Float[Tensor, "states tokens codes"]
"""log p(place, code | state); -inf where a place is written."""


def states() -> Int[Tensor, "states tokens"]:
    """Return all partly written sequences, the last token counting fastest."""
    axes = [torch.arange(MASKED, CODES)] * LENGTH
    return torch.cartesian_prod(*axes)


def chances(policy: Unmasking) -> Chances:
    """Return what a policy does in each state, in float64. Raises ValueError if it writes several places a step."""
    if policy.sampler.steps != LENGTH or policy.sampler.order == "confidence":
        raise ValueError("values are summed over states of policies that write one place a step, in an exact order")
    tokens = states()
    codes = policy.codes(tokens, policy.model.encode([Prompt("")]), torch.zeros(len(tokens), dtype=torch.int64))
    places = policy.scores(codes).double().masked_fill(tokens != MASKED, -torch.inf)
    places = torch.where(places.isinf().all(1, keepdim=True), places, places.log_softmax(1))
    return places[..., None] + codes.logits.double().log_softmax(-1)


def value(policy: Chances, base: Chances, kl_weight: float, worth: Float[Tensor, " all"]) -> float:
    """Return E[r] - kl_weight E[sum of the decisions' KL], for the reward `worth` of every sequence."""

    def expected(state: Tensor, later: Chances) -> Float[Tensor, " some"]:
        p, q = policy[state], base[state]
        paid = kl_weight * (p - q).masked_fill(p.isinf(), 0)
        return (p.exp() * (later - paid)).sum((1, 2))

    return _backwards(worth, expected)


def best(base: Chances, kl_weight: float, worth: Float[Tensor, " all"], ordered: bool) -> float:
    """Return the most that `value` can be; `ordered`, the places too are chosen freely, which no policy can exceed."""

    def most(state: Tensor, later: Chances) -> Float[Tensor, " some"]:
        places = base[state].logsumexp(2)
        if kl_weight:
            each = kl_weight * ((base[state] + later / kl_weight).logsumexp(2) - places)
        else:
            each = later.amax(2)
        each = each.masked_fill(places.isinf(), 0)
        if not ordered:
            return (places.exp() * each).sum(1)
        if not kl_weight:
            return each.masked_fill(places.isinf(), -torch.inf).amax(1)
        return kl_weight * (places + each / kl_weight).logsumexp(1)

    return _backwards(worth, most)


def _backwards(
    worth: Float[Tensor, " all"], here: Callable[[Int[Tensor, " some"], Chances], Float[Tensor, " some"]]
) -> float:
    """Return the value of what is not written at all: `here` makes those of some states of what they may become."""
    tokens, stride = states(), (CODES + 1) ** torch.arange(LENGTH - 1, -1, -1)
    values, written = torch.zeros(len(tokens), dtype=torch.float64), (tokens != MASKED).sum(1)
    whole = written == LENGTH
    values[whole] = worth[number(tokens[whole])].double()
    for count in range(LENGTH - 1, -1, -1):
        state = (written == count).nonzero()[:, 0]
        next_state = state[:, None, None] + stride[:, None] * torch.arange(1, CODES + 1)
        is_open = (tokens[state] == MASKED)[..., None]
        values[state] = here(state, values[torch.where(is_open, next_state, 0)].masked_fill(~is_open, 0))
    return float(values[0])
