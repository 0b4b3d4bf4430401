"""Which tokens an advantage counts at: GCPO's and STAGE's weights on sequences of o4, by hand and by plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from limner.algorithms.flow_grpo import FlowGRPO
from limner.build import assemble
from limner.core.errors import UserError
from limner.core.types import Prompt, Rollout, Scored, Trajectory
from limner.models.tokens.adapter import Tokens
from limner.objectives.categorical import Categorical
from limner.objectives.critical import edges
from limner.policies.masked import MaskedSampler
from limner.policies.tokens import Coded, TokenSampler, Written
from limner.training.config import Full, Model, Optimizer, RunConfig
from limner.training.critical import Critical, Unlike
from limner.training.loop import Hooks, train
from limner.training.preflight import preflight
from limner.training.state import State
from limner.worlds.oracle.tokens import TokenOracle
from toys import Silent, toy_rollout


def scored(tokens: list[list[int]], logits: Tensor, valid: list[bool] | None = None, vectors: Tensor | None = None):
    written, n = torch.tensor(tokens), len(tokens)
    everything, index = torch.ones(written.shape), torch.zeros(n, dtype=torch.long)
    states = Written(written, None if vectors is None else vectors[written])
    node = torch.arange(n)[:, None].expand(written.shape)
    path = Trajectory(states, everything, Categorical(logits), everything.bool(), node)
    rollout = Rollout([Prompt("p")], index, index, None, written, path, torch.arange(n), 0)
    return Scored(rollout, {}, torch.tensor(valid or [True] * n), torch.zeros(n))


def test_stage_by_hand() -> None:
    """1 against the two that are worse: equal to both at 0, to one at 1 and 2, to none at 3; and so on."""
    judged = scored([[0, 1, 2, 3], [0, 1, 0, 0], [0, 2, 2, 0]], torch.zeros(3, 4, 4))
    found = Unlike().spread(torch.tensor([2.0, -1.0, -1.0]), judged)
    weight = torch.tensor([[0.0, 0.25, 0.25, 0.5], [0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 0.0, 0.5]])
    torch.testing.assert_close(found, torch.tensor([[2.0], [-1.0], [-1.0]]) * weight / (3.0 / 12))


def test_stage_by_vectors_of_codes() -> None:
    """Codes 0 and 1 are opposite, and weigh 1; 0 and 2 are at a right angle: 1/2. An invalid sample is out."""
    vectors = torch.tensor([[2.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    judged = scored([[0, 0, 0, 0], [1, 2, 3, 0], [1, 1, 1, 1]], torch.zeros(3, 4, 4), [True, True, False], vectors)
    found = Unlike().spread(torch.tensor([1.0, -1.0, 0.0]), judged)
    weight = torch.tensor([1.0, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0])
    torch.testing.assert_close(found, torch.tensor([[1.0], [-1.0], [0.0]]) * weight / weight.mean())


def test_gcpo_by_hand() -> None:
    """A 2 x 2 picture: the first token, the sharper edge of the middle two, and what was written differently."""
    sure, unsure = [50.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]
    logits = torch.tensor([[sure, unsure, sure, sure], [sure, sure, unsure, sure]])
    judged = scored([[0, 1, 2, 3], [0, 1, 2, 0]], logits)
    found = Critical(share=0.25).spread(torch.tensor([1.0, -1.0]), judged)
    h = math.log(4)  # means over a token and what is before it: 0: itself; 1: with 0; 2: with 0, 1; 3: with all
    first = [[0.0, h / 2], [h / 3, h / 4]]
    expected = [math.hypot(first[1][j] - first[0][j], first[i][1] - first[i][0]) for i, j in ((0, 1), (1, 0))]
    at = 1 if expected[0] > expected[1] else 2
    rest = ({1, 2} - {at}).pop()
    row = torch.full((4,), 4 / 3)
    row[rest] = 0  # token 3 is the only one that the two wrote differently
    torch.testing.assert_close(found[0], row)
    assert (found.sum(1) == torch.tensor([4.0, -4.0])).all() and found[1, 0] == found[1, 3] == -4 / 3


def test_edges_against_plain_loops() -> None:
    entropy = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = torch.zeros_like(entropy)
    for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
        near = [(i, j), (i, j - 1), (i - 1, j - 1), (i - 1, j), (i - 1, j + 1)]
        there = [entropy[b, r, c] for r, c in near if r >= 0 and 0 <= c < 5]
        mean[b, i, j] = torch.stack(there).mean()
    for i, j in ((0, 0), (1, 2), (3, 4), (2, 0)):
        low, high = max(i - 1, 0), min(i + 1, 3)
        left, right = max(j - 1, 0), min(j + 1, 4)
        down = (mean[:, high, j] - mean[:, low, j]) / (high - low)
        across = (mean[:, i, right] - mean[:, i, left]) / (right - left)
        torch.testing.assert_close(edges(entropy)[:, i, j], (down**2 + across**2).sqrt())


def test_a_model_that_knows_its_codes_says_so() -> None:
    model = Tokens.tiny()
    assert isinstance(model, Coded) and not isinstance(TokenOracle.load(), Coded)
    drawn = toy_rollout(TokenSampler().policy(model), 1, 2)
    torch.testing.assert_close(drawn.path.states.vectors, model.codebook()[drawn.sample])


@pytest.mark.parametrize("focus", [Unlike(), Critical(share=0.25)], ids=str)
def test_a_run_on_o4_learns_by_it(focus: Unlike | Critical) -> None:
    """In 30 iterations the mean reward rises by a fifth of its range, and no picture is counted as even."""
    metrics = trained(o4(focus=focus))
    assert metrics["reward/mean"] > 0.7 and "focus/even" not in metrics


def test_what_has_no_tokens_in_order_is_refused() -> None:
    masked = replace(o4(focus=Unlike()), sampler=MaskedSampler(steps=4))
    masked = replace(masked, model=replace(masked.model, path="o4-masked"))
    with pytest.raises(UserError, match="focus Critical and Unlike weigh the tokens of samples"):
        trained(masked)
    with pytest.raises(UserError, match=r"share 0.1 of the tokens of a square picture, and samples have 4"):
        trained(o4(focus=Critical()))


def trained(config: RunConfig) -> dict[str, float]:
    """Return the last numbers of a run."""
    parts, silent = assemble(config).parts, Silent()
    preflight(config, parts)
    train(config, parts, State(), Hooks(silent, silent, lambda state: None, lambda state: {}))
    return silent.metrics


def o4(**changes: object) -> RunConfig:
    made = RunConfig(
        name="oracle", model=Model("limner.worlds.oracle.tokens:TokenOracleSettings", "o4", train=Full()),
        prompts="oracle:train", reward="o4", sampler=TokenSampler(), device="cpu", steps=30, prompts_per_step=4,
        algorithm=FlowGRPO(clip_low=0.2, clip_high=0.2, clip_elements=1), group_size=8, micro_batch=64,
        optimizer=Optimizer(lr=5e-2),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]
