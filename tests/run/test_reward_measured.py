"""What the report of a learned reward says of each question and kind of prompt, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import torch

from limner.evaluate.ordering import swap_consistency
from limner.reward_models import per_slice
from limner.rewards.learned.design import Design
from limner.rewards.learned.network import Ensemble, Worth
from limner.training.judgements import Judgements
from limner.training.reward_model import RewardTraining, Worths


def test_each_question_and_kind_of_prompt_is_measured_with_and_without_ties() -> None:
    """By hand: four pairs of four prompts, of two kinds; leads of 5 nats, which no tie survives, or none."""
    leads = torch.tensor([[5.0, 0.0, -5.0, 5.0], [-5.0, 5.0, 0.0, 0.0]])
    worth = torch.stack([leads, torch.zeros_like(leads)], 2).flatten(1).T  # of both pictures of each pair, by question
    votes = [[[3, 1, 0], [0, 0, 0]], [[0, 2, 0], [2, 0, 2]], [[1, 0, 3], [0, 1, 0]], [[0, 0, 4], [0, 0, 0]]]
    none = torch.zeros(0, dtype=torch.long)
    on = Judgements(
        torch.zeros(8, 1, 3, 2, 2, dtype=torch.uint8), list("pqrs"), ["even", "odd"] * 2,
        torch.arange(4).repeat_interleave(2), ("fit", "look"), torch.arange(8).view(4, 2),
        torch.tensor(votes, dtype=torch.float32), [()] * 4, none.view(0, 2), none.view(0, 2).bool(), none, none.float(),
    )  # fmt: skip
    known = Worths((), lambda person: Worth(worth, torch.zeros_like(worth)))
    ensemble = cast(Ensemble, SimpleNamespace(tie=lambda question: 1.0))  # so that a tie is likeliest at a lead of 0
    how = RewardTraining(design=Design(ties="davidson"))
    found = [per_slice(known, ensemble, how, on, question) for question in (0, 1)]
    assert {name: tuple(each.value for each in both) for name, both in found[0].items()} == {
        "even": (0.875, 0.75),  # of three and three of four for a side; of four and four votes three
        "odd": (0.0, 0.5),  # where both said a tie it is right only with ties
    }
    assert {name: tuple(each.value for each in both) for name, both in found[1].items()} == {"odd": (0.5, 0.5)}


def test_swap_consistency_by_hand() -> None:
    """A draw is one from both sides; of four pairs one changes its mind, and then another."""
    lead = torch.tensor([5.0, 0.0, -5.0, 5.0])
    assert swap_consistency(lead, torch.tensor([-4.0, 0.0, 1.0, 2.0])) == 0.75
    assert swap_consistency(lead, torch.tensor([-4.0, 1.0, 1.0, 2.0])) == 0.5
