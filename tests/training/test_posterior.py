"""A linear reward's posterior against Bradley and Terry's fit of votes one by one, and people drawn from its prior."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import UserError
from limner.core.types import OVERALL
from limner.objectives.logistic import fit_bradley_terry
from limner.rewards.learned.design import Design
from limner.rewards.learned.linear import LinearHead
from limner.rewards.learned.network import Ensemble
from limner.training.judgements import Judgements
from limner.training.posterior import PRIOR, infer


def said(pictures: int, pairs: torch.Tensor, votes: torch.Tensor, orders: torch.Tensor) -> Judgements:
    """Return what was said of pictures that nobody looks at, as their features are given."""
    none = torch.zeros(0)
    return Judgements(
        pictures=torch.zeros(pictures, 1, 3, 8, 8, dtype=torch.uint8),
        texts=["a star"],
        categories=[""],
        text=torch.zeros(pictures, dtype=torch.long),
        questions=[OVERALL],
        pairs=pairs,
        votes=votes[:, None],
        people=[()] * len(pairs),
        rankings=orders,
        ranked=torch.ones_like(orders, dtype=torch.bool),
        rated=none.long(),
        liked=none,
    )


def linear(width: int, members: int) -> Ensemble:
    """Return members whose features are numbers as they are."""
    ensemble = Ensemble(Design(kind="linear", members=members), (), 1)
    for i in range(members):
        head = ensemble.member(i).network
        assert isinstance(head, LinearHead)
        head.mean, head.std = torch.zeros(width), torch.ones(width)
        head.weight = torch.nn.Parameter(torch.zeros(1, width))
    return ensemble


def weights(ensemble: Ensemble) -> torch.Tensor:
    """Return the weights of each member."""
    return torch.stack([tensor[0] for name, tensor in ensemble.state_dict().items() if name.endswith("weight")])


NO_ORDERS = torch.zeros(0, 2, dtype=torch.long)


def test_each_vote_counts_and_an_order_of_two_is_one() -> None:
    """Three votes for the first and one for the second are four rows of a fit by hand; an order of two is one more."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, generator=generator)
    votes = torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
    of = said(6, torch.tensor([[0, 1], [2, 3]]), votes, torch.tensor([[4, 5]]))
    ensemble = linear(3, 5)
    infer([ensemble.member(i) for i in range(5)], of, x[:, None], "bradley_terry", generator)
    rows = [(0, 1)] * 3 + [(1, 0)] + [(3, 2)] * 2 + [(4, 5)]
    fitted = fit_bradley_terry(torch.stack([x[a] - x[b] for a, b in rows]), torch.ones(len(rows)), 1 / PRIOR**2)
    torch.testing.assert_close(weights(ensemble).mean(0).double(), fitted.weights, atol=1e-5, rtol=1e-4)


def test_what_it_is_unsure_of_holds_the_truth_as_often_as_it_says() -> None:
    """Of 200 people whose taste is drawn from the prior, each asked about 40 pairs: z-scores of a fresh pair's lead.

    Their square is 1 on average, and 95 % of them are below 1.96: within three standard errors. There are more weights
    than votes, as in use; of 4 weights, whose posterior is skewed, it is 90 %.
    """
    generator, width, people = torch.Generator().manual_seed(1), 64, 200
    scores = []
    for _ in range(people):
        taste = PRIOR * torch.randn(width, generator=generator)
        x = torch.randn(82, width, generator=generator) / width**0.5
        pairs = torch.arange(80).view(40, 2)
        won = torch.bernoulli(torch.sigmoid((x[pairs[:, 0]] - x[pairs[:, 1]]) @ taste), generator=generator)
        votes = torch.stack([won, torch.zeros(40), 1 - won], 1)
        ensemble = linear(width, 200)
        members = [ensemble.member(i) for i in range(200)]
        infer(members, said(82, pairs, votes, NO_ORDERS), x[:, None], "bradley_terry", generator)
        fresh = x[80] - x[81]
        leads = weights(ensemble) @ fresh
        scores.append(float((fresh @ taste - leads.mean()) / leads.std()))
    z = torch.tensor(scores)
    assert abs(float((z.abs() < 1.96).double().mean()) - 0.95) < 3 * (0.95 * 0.05 / people) ** 0.5
    assert abs(float(z.square().mean()) - 1) < 3 * (2 / people) ** 0.5


def test_of_a_clip_the_mean_of_its_frames_counts() -> None:
    generator = torch.Generator().manual_seed(3)
    frames = torch.randn(2, 4, 3, generator=generator)
    of = said(2, torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0, 0.0]]), NO_ORDERS)
    found = []
    for seen in (frames, frames.mean(1, keepdim=True)):
        ensemble = linear(3, 1)
        infer([ensemble.member(0)], of, seen, "davidson", generator)
        found.append(ensemble.member(0).say(frames.flatten(0, 1), torch.zeros(2, 0), 4).worth.mean)
    torch.testing.assert_close(*found)


def test_features_of_what_it_was_trained_on_have_a_mean_square_of_one() -> None:
    head = LinearHead(8, 1, "")
    seen = 3 + 5 * torch.randn(40, head.mean.numel(), generator=torch.Generator().manual_seed(4))
    head.standardise(seen)
    torch.testing.assert_close(head.features(seen).mean(0), torch.zeros(head.mean.numel()), atol=1e-5, rtol=0)
    torch.testing.assert_close(head.features(seen).square().sum(1).mean(), torch.tensor(1.0))


def test_it_sees_colours_and_their_spread_and_has_a_gradient_everywhere() -> None:
    """Of a picture of one colour too, whose spread is 0."""
    head = LinearHead(64, 1, "")
    head.weight = torch.nn.Parameter(torch.randn(1, head.mean.numel(), generator=torch.Generator().manual_seed(5)))
    flat, split = torch.full((1, 3, 32, 32), 0.5), torch.full((1, 3, 32, 32), 0.25)
    split[..., 16:] = 0.75
    seen = head.see(torch.cat([flat, split]))
    colours = seen[:, 272:284], seen[:, 284 + 272 :]
    torch.testing.assert_close(colours[0], torch.full((2, 12), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(colours[1], torch.tensor([[0.001] * 12, [0.25] * 12]), atol=0.01, rtol=0)
    pixels = flat.clone().requires_grad_()
    head.judge(head.see(pixels), head.read(["a"]), 1).sum().backward()
    assert pixels.grad is not None and pixels.grad.isfinite().all() and pixels.grad.abs().sum() > 0


@pytest.mark.parametrize("told", [{"gaussian": True}, {"tastes": 1}, {"motion": True}])
def test_what_a_linear_reward_cannot_learn_is_refused(told: dict[str, bool | int]) -> None:
    with pytest.raises(
        UserError, match=r"leave design.gaussian, design.tastes and design.motion out, or give .*frozen"
    ):
        Design(kind="linear", **told)
