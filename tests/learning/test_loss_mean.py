"""What a loss over decisions is a mean over, on o4: gradients against sums that are written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from limner.algorithms.ddpo import DDPO
from limner.algorithms.dpo import DPO
from limner.algorithms.trpo import TRPO
from limner.core.errors import UserError
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Batch, Prompt
from limner.learning.passes import optimizer_steps
from limner.policies.tokens import Autoregressive, TokenSampler
from limner.training.config import RunConfig
from limner.worlds.oracle.tokens import CODES, TokenOracle
from toys import toy_rollout

LENGTHS = (4, 2, 1, 0, 4, 4)
"""Decisions that count, of two groups of three samples; nothing in the second teaches, nor does the fourth count."""
ADVANTAGE = torch.tensor([1.0, -2.0, 0.5, 0.0, 0.0, 0.0])


def log_probs(model: TokenOracle, tokens: Tensor) -> list[Tensor]:
    """log p of each token of a sample, from the table's numbers."""
    table, place, found = model.networks["table"], 0, []
    for i, token in enumerate(tokens.tolist()):
        found.append((table.after[i][place] + table.prompt[0]).log_softmax(0)[token])
        place = CODES * place + token
    return found


def case() -> tuple[Autoregressive, Batch]:
    policy = TokenSampler().policy(TokenOracle.load())
    rollout = toy_rollout(policy, 2, 3, condition=policy.model.encode([Prompt("a sequence")] * 2))
    rollout.path.mask[:] = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
    return policy, Batch(rollout, ADVANTAGE)


BY_HAND: dict[str, Callable[[int], float]] = {
    "decisions": lambda row: 1 / (4 + 2 + 1),
    "samples": lambda row: 1 / (3 * LENGTHS[row]),
    "constant": lambda row: 1 / (6 * 4),
}


@pytest.mark.parametrize("how", BY_HAND)
@pytest.mark.parametrize("micro_batch", [100, 2])
def test_each_mean_is_the_one_that_its_name_says(how: str, micro_batch: int) -> None:
    policy, batch = case()
    parameters = list(policy.model.networks["table"].parameters())
    terms = []
    for row, tokens in enumerate(batch.rollout.sample):
        weight = BY_HAND[how](row) if ADVANTAGE[row] else 0.0
        scores = log_probs(policy.model, tokens)[: LENGTHS[row]]
        terms += [-weight * ADVANTAGE[row] * score for score in scores]
    expected = torch.autograd.grad(torch.stack(terms).sum(), parameters, allow_unused=True)
    context = Context(Rng(("mean",)), 0, micro_batch, loss_mean=how)
    (step,) = optimizer_steps(DDPO(surrogate="score"), Actors(policy, policy, policy), batch, context)
    assert step.size == 7 and step.mass == {"decisions": 7, "samples": 3, "constant": 24}[how]
    loss = sum(share.loss for share in step.shares(step.mass))
    for found, wanted in zip(torch.autograd.grad(loss, parameters, allow_unused=True), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_constant_is_shared_by_updates_and_by_processes_without_samples() -> None:
    policy, batch = case()
    context = Context(Rng(("mean",)), 0, 100, loss_mean="constant")
    actors = Actors(policy, policy, policy)
    steps = list(optimizer_steps(DDPO(num_updates=2), actors, batch, context))
    assert [step.mass for step in steps] == [12, 12]

    class Two:
        """A team whose other member has what this one lacks."""

        def gather(self, x: Tensor) -> Tensor:
            return torch.tensor([7])

    idle = replace(batch, advantage=torch.zeros(6))
    (step,) = optimizer_steps(DDPO(), actors, idle, replace(context, team=Two()))  # type: ignore[arg-type]
    assert step.size == 0 and step.mass == 24 and not list(step.shares(48))


@pytest.mark.parametrize("algorithm", [DPO(), TRPO()], ids=str)
def test_another_loss_is_refused(algorithm: DPO | TRPO) -> None:
    with pytest.raises(UserError, match=f"loss_mean says .* {type(algorithm).__name__} has another"):
        RunConfig("x", algorithm=algorithm, loss_mean="samples")
