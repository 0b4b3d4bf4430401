"""What an algorithm is shown of its rewards, and what a shared decision is credited with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limner.algorithms.flow_grpo import FlowGRPO
from limner.build import assemble
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Prompt, Rollout, Scored
from limner.diffusion.dynamics import FlowSDE
from limner.learning.credit import credited
from limner.policies.denoising import Sampler
from limner.rollout.collect import EncodeCache, collect
from limner.training.config import Full, Model, RunConfig
from limner.training.loop import Hooks, train
from limner.training.state import State
from toys import Silent, losses, toy_denoiser, toy_rollout


def test_a_run_compares_by_ranks_and_reports_what_was_judged() -> None:
    shown = []

    class Watching(FlowGRPO):
        def advantage(self, scored, context):
            shown.append(scored)
            return super().advantage(scored, context)

    config = RunConfig(
        name="watched",
        model=Model("limner.worlds.oracle.model:OracleSettings", "o1", train=Full()),
        prompts="oracle:train",
        reward="0.25 * rank(o1) + 0.75 * rank(o2)",
        algorithm=Watching(),
        sampler=Sampler(FlowSDE(), 4),
        steps=1,
        prompts_per_step=2,
        group_size=4,
    )
    silent = Silent()
    train(config, assemble(config).parts, State(), Hooks(silent, silent, lambda state: None, lambda state: {}))
    (scored,) = shown
    shares = {0.25 * a + 0.75 * b for a in (0, 1 / 3, 2 / 3, 1) for b in (0, 1 / 3, 2 / 3, 1)}
    assert all(min(abs(total - share) for share in shares) < 1e-6 for total in scored.total.tolist())
    raw = 0.25 * scored.rewards["o1"] + 0.75 * scored.rewards["o2"]
    torch.testing.assert_close(silent.metrics["reward/mean"], raw.mean().item())


def judged(rollout: Rollout, valid: Tensor | None = None) -> Scored:
    everyone = torch.ones(len(rollout), dtype=torch.bool)
    return Scored(rollout, {}, everyone if valid is None else valid, torch.rand(len(rollout)))


def test_a_shared_decision_has_the_mean_credit_of_the_samples_below_it() -> None:
    plain = toy_rollout(Sampler(FlowSDE(), 4).policy(toy_denoiser()), 2, 4)
    advantage = torch.tensor([1.0, 2.0, 3.0, 6.0, 0.0, 0.0, 0.0, 4.0])
    assert credited(judged(plain), advantage).advantage is advantage
    tree = toy_rollout(Sampler(FlowSDE(), 4, splits=(0, 1)).policy(toy_denoiser()), 2, 4)
    found = credited(judged(tree), advantage).advantage
    assert found.T.tolist() == [[1.5, 1.5, 4.5, 4.5, 0, 0, 2, 2], advantage.tolist(), advantage.tolist()]


def test_an_invalid_leaf_leaves_its_tree_and_the_loss() -> None:
    """An invalid first leaf owns what it shares with a valid one: that stays. What leads to invalid ones alone goes."""
    policy = Sampler(FlowSDE(), 4, splits=(0, 1)).policy(toy_denoiser())
    tree = toy_rollout(policy, 1, 4)
    valid = torch.tensor([False, True, False, False])
    x = tree.path.states.x
    x[0, 2], tree.path.choices[0, 1:] = math.nan, math.nan
    x[2:], tree.path.choices[2:] = math.nan, math.nan
    batch = credited(judged(tree, valid), torch.tensor([0.0, 3.0, 0.0, 0.0]))
    assert batch.rollout.path.mask.T.int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
    assert batch.advantage[0, 0] == 3 and batch.advantage[1, 1:].tolist() == [3, 3]
    context = Context(Rng(("loss",)), 0, 8)
    (output,) = losses(FlowGRPO(num_updates=1, kl_weight=0.1), Actors(policy, policy, policy), batch, context)
    assert output.loss.isfinite() and output.metrics["weight"] == 3


def test_the_loss_of_a_tree_is_over_its_different_decisions() -> None:
    """Its gradient is that of minus the mean of (mean advantage below) x (log-ratio / D), each decision taken once."""
    model = toy_denoiser()
    policy = Sampler(FlowSDE(), 4, splits=(0, 1)).policy(model)
    tree = toy_rollout(policy, 2, 4)
    advantage = torch.tensor([1.0, 2.0, 3.0, -6.0, 0.5, 0.0, -1.0, 4.0])
    batch = credited(judged(tree), advantage)
    parameters = list(model.network.parameters())
    outputs = losses(FlowGRPO(num_updates=1), Actors(policy, policy, policy), batch, Context(Rng(("x",)), 0, 5))
    found = torch.autograd.grad(sum(output.loss for output in outputs), parameters)
    terms = []
    for group in (range(4), range(4, 8)):
        for column, branches in enumerate(([group[:2], group[2:]], *([[leaf] for leaf in group],) * 2)):
            for branch in branches:
                row, choice = branch[0], tree.path.choices[branch[0], column]
                x, t, s = (each[row, column][None] for each in vars(tree.path.states).values())
                index, decides = tree.prompt_index[row : row + 1], torch.tensor([True])
                _, drawn = policy.step(x, (t, s), tree.condition, index, decides)
                density = torch.distributions.Normal(drawn.mean[0], tree.path.old.std[row, column]).log_prob(choice)
                terms.append(advantage[list(branch)].mean() * density.mean())
    expected = torch.autograd.grad(-torch.stack(terms).mean(), parameters)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-7)


def test_a_tree_is_the_same_however_it_is_cut_into_passes() -> None:
    policy = Sampler(FlowSDE(), 5, splits=(0, 2)).policy(toy_denoiser(2))
    cache, prompts = EncodeCache(policy.model.encode), [Prompt("1"), Prompt("2")]
    whole, cut = (
        collect(policy, cache, prompts, 4, rng=Rng(("cut",)), step=3, record=True, micro_batch=size) for size in (8, 3)
    )
    torch.testing.assert_close(whole.sample, cut.sample)
    torch.testing.assert_close(whole.path.states.x, cut.path.states.x)
    torch.testing.assert_close(whole.path.old.mean, cut.path.old.mean)
    assert torch.equal(whole.path.mask, cut.path.mask) and torch.equal(whole.path.node, cut.path.node)
    ours, theirs = (next(policy.pack(r, torch.arange(8), 99)) for r in (whole, cut))
    assert len(ours) == 2 * (2 + 2 + 4 + 4)
    torch.testing.assert_close(ours.choice, theirs.choice)
