"""Pairs of clips whose segments were judged by themselves: DPO's loss against a closed form of its own, in float64."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from limner.algorithms.dpo import DPO
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Batch
from limner.diffusion.dynamics import EulerODE
from limner.learning.passes import optimizer_steps
from limner.learning.restoration import Noising
from limner.policies.denoising import Sampler
from toys import Affine, ToyDenoiser, toy_rollout

SHAPE = (2, 4, 3, 1)
"""Channels, times, rows and columns of a latent."""
MIXED = [1.0, -1.0, 0.0, 0.5]
BETA = 3.0


class Case:
    """Two pairs, of words 1 and 2; the policy has moved from the reference."""

    def __init__(self) -> None:
        self.now, self.before = (Affine(math.prod(SHAPE), seed).double() for seed in (0, 1))
        models = [ToyDenoiser(network, SHAPE) for network in (self.now, self.before)]
        policy, reference = (Sampler(EulerODE(), steps=3).policy(model) for model in models)
        self.actors = Actors(policy, reference, reference)
        self.rollout = toy_rollout(policy, prompts=2, group_size=2, record=False)
        self.algorithm = DPO(beta=BETA, noising=Noising(num_times=2))

    def losses(self, labels: list[float] | None, advantage: tuple[float, ...] = (1, -1, 1, -1)) -> Tensor:
        """Return the loss of each (pair, time)."""
        region = None if labels is None else torch.tensor(labels).view(1, 1, -1, 1, 1).expand(4, -1, -1, -1, -1)
        batch = Batch(replace(self.rollout, region=region), torch.tensor(advantage).float())
        (step,) = optimizer_steps(self.algorithm, self.actors, batch, Context(Rng("update"), 0, 100))
        (self.pack,) = step.packs()
        return self.algorithm.pass_loss(self.actors, batch, self.pack)[0]

    def gaps(self, network: Affine) -> Tensor:
        """Return the gap of each time of the latent, [pairs x times, 4], by numbers alone."""
        found = []
        for row, noise, t in zip(self.pack.both.row, self.pack.both.noise, self.pack.both.t, strict=True):
            x0, word = self.rollout.sample[row].double(), torch.tensor([int(row) // 2 + 1])
            state = ((1 - t) * x0 + t * noise)[None]
            new, old = (each(state, t[None], word)[0] - (noise - x0) for each in (network, self.before))
            found.append((new**2 - old**2).mean((0, 2, 3)))
        better, worse = torch.stack(found).chunk(2)
        return better - worse


def test_the_loss_is_the_sum_of_the_segments_gaps() -> None:
    """DenseDPO's eq. 7: -log sigmoid(-beta/2 sum of label times gap, over four times), the mean being over elements."""
    case = Case()
    found, labels = case.losses(MIXED), torch.tensor(MIXED).double()
    expected = -torch.sigmoid(-BETA / 2 * (case.gaps(case.now) * labels).sum(1) / 4).log()
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_the_gradient_is_the_sum_of_the_segments_gradients() -> None:
    """Each with its label, and all with sigmoid(beta/2 gap); and finite differences say the same."""
    case = Case()
    parameter = case.now.drift
    (found,) = torch.autograd.grad(case.losses(MIXED).sum(), parameter)
    labels, gaps = torch.tensor(MIXED).double(), case.gaps(case.now)
    expected = torch.zeros_like(found)
    for pair in gaps:
        weight = BETA / 2 * torch.sigmoid(BETA / 2 * (labels * pair).sum().detach() / 4)
        for label, gap in zip(labels, pair, strict=True):
            expected += weight * label / 4 * torch.autograd.grad(gap, parameter, retain_graph=True)[0]
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    for place in (0, 7, 23):
        ends = []
        for step in (1e-5, -1e-5):
            moved = copy.deepcopy(case.now)
            moved.drift.data[place] += step
            ends.append(-torch.sigmoid(-BETA / 2 * (case.gaps(moved) * labels).sum(1) / 4).log().sum())
        assert float((ends[0] - ends[1]).detach() / 2e-5) == pytest.approx(float(found[place]), abs=1e-8)


def test_equal_labels_are_the_ordinary_loss() -> None:
    case = Case()
    torch.testing.assert_close(case.losses([1.0] * 4), case.losses(None), atol=1e-12, rtol=0)
    swapped = case.losses(None, (-1, 1, -1, 1))
    torch.testing.assert_close(case.losses([-1.0] * 4), swapped, atol=1e-12, rtol=0)


def test_a_tie_teaches_nothing() -> None:
    """This network sees each element alone: what stands in the third time, a tie, changes neither loss nor gradient."""
    case = Case()
    before = case.losses(MIXED)
    case.rollout.sample[:, :, 2] += 5
    after = case.losses(MIXED)
    torch.testing.assert_close(after, before, atol=0, rtol=0)
    (grad,) = torch.autograd.grad(after.sum(), case.now.drift)
    assert not grad.view(SHAPE)[:, 2].any() and grad.view(SHAPE)[:, [0, 1, 3]].all()
