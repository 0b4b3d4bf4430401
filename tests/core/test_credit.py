"""What an algorithm is shown of its rewards, and what a shared decision is credited with."""

from __future__ import annotations

import torch

from limner.algorithms.flow_grpo import FlowGRPO
from limner.build import assemble
from limner.core.credit import compared, credited
from limner.core.types import Scored
from limner.diffusion.dynamics import FlowSDE
from limner.policies.denoising import Denoising
from limner.training.config import Full, Model, RewardTerm, RunConfig, Sampler
from limner.training.loop import Hooks, train
from limner.training.state import State
from toys import toy_denoiser, toy_rollout


class Silent:
    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.metrics = metrics

    def phase(self, name: str) -> None: ...

    def step(self, done: int, mean: float, std: float) -> None: ...


def test_a_run_compares_by_its_aggregation_and_reports_what_was_judged() -> None:
    shown = []

    class Watching(FlowGRPO):
        def advantage(self, scored, context):
            shown.append(scored)
            return super().advantage(scored, context)

    config = RunConfig(
        name="watched",
        model=Model("limner.worlds.oracle.model:Oracle", "o1", train=Full()),
        prompts="oracle:train",
        rewards=(RewardTerm("o1", 0.25), RewardTerm("o2", 0.75)),
        aggregation="win_rate",
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


def test_a_sum_changes_nothing() -> None:
    scored = Scored(toy_rollout(Denoising(toy_denoiser(), FlowSDE(), 3)), {}, torch.ones(12).bool(), torch.rand(12))
    assert compared(scored, {}, "sum") is scored


def test_a_shared_decision_has_the_mean_credit_of_the_samples_below_it() -> None:
    plain = toy_rollout(Denoising(toy_denoiser(), FlowSDE(), 4), 2, 4)
    advantage = torch.tensor([1.0, 2.0, 3.0, 6.0, 0.0, 0.0, 0.0, 4.0])
    assert credited(plain, advantage).advantage is advantage
    tree = toy_rollout(Denoising(toy_denoiser(), FlowSDE(), 4, splits=(0, 1)), 2, 4)
    found = credited(tree, advantage).advantage
    assert found.T.tolist() == [[1.5, 1.5, 4.5, 4.5, 0, 0, 2, 2], advantage.tolist(), advantage.tolist()]
