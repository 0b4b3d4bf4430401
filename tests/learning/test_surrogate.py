"""A surrogate of a judge: what it sees and keeps, its slope by finite differences, and that it learns a known one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from limner.core.rng import Rng
from limner.learning.surrogate import PLACES, TEXT, Fitting, Surrogate, placed, read

HOW = Fitting(lr=2e-3, steps=20, keep=6, noise=0.1, width=32)
CONDITION = {"text": torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "id": torch.arange(3)}
WANTED = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(9))
"""The first prompt is content with what lies along the first, the second along the second."""


def shown(memory: dict[str, Any], step: int, count: int = 64, how: Fitting = HOW, worth: float = 5.0) -> Surrogate:
    x = torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(step))
    index = torch.arange(count) % 2
    reward = worth + 0.1 * (x * WANTED[index]).flatten(1).sum(1).double()
    return Surrogate.load(memory, x, CONDITION, index, reward, how)


def test_places_hold_every_number_once() -> None:
    """By hand: of a picture 2 x 2 numbers of each channel, of a clip those of each frame; of points one place."""
    x = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    found = placed(x)
    assert found.shape == (2, 4, 12)
    for i in range(2):
        for j in range(2):
            part = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1)
            assert torch.equal(found[:, 2 * i + j].sort().values, part.sort().values)
    clip = torch.arange(2 * 3 * 2 * 4 * 4.0).view(2, 3, 2, 4, 4)
    assert placed(clip).shape == (2, 8, 12)
    assert torch.equal(placed(clip)[:, 4:], placed(clip[:, :, 1]))
    assert torch.equal(placed(torch.arange(6.0).view(2, 3)), torch.arange(6.0).view(2, 1, 3))
    assert placed(torch.zeros(1, 3, 5, 4)).shape == (1, 20, 3)
    large = torch.rand(1, 1, 64, 64)
    assert placed(large).shape == (1, PLACES, 4)
    torch.testing.assert_close(placed(large).mean(), large.mean())


def test_what_is_read_is_standardised_and_of_bounded_length() -> None:
    long = {"a": torch.randn(2, 10, 1000), "b": torch.randn(2, 5), "index": torch.tensor([1, 2]), "c": torch.ones(2)}
    found = read(long)
    assert found.shape == (2, TEXT + 5 + 1)
    torch.testing.assert_close(found[:, TEXT : TEXT + 5].mean(1), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[:, -1], torch.ones(2))


def test_its_slope_is_what_finite_differences_say() -> None:
    surrogate = shown({}, 0, count=3)
    surrogate.fit(Rng(("slope",)))
    slope, last = surrogate.gradient().double(), surrogate.kept[-1]
    network, text = copy.deepcopy(surrogate.network).double(), last["text"][last["index"]].double()
    x, epsilon = last["x"].double(), 1e-5
    expected = torch.empty_like(slope).flatten(1)
    for i in range(expected.shape[1]):
        step = torch.zeros_like(x).flatten(1)
        step[:, i] = epsilon
        with torch.no_grad():
            up, down = (network(placed(x + sign * step.view_as(x)), text) for sign in (1, -1))
        expected[:, i] = (up - down) / (2 * epsilon)
    torch.testing.assert_close(slope.flatten(1), expected, atol=1e-5, rtol=1e-3)
    assert expected.abs().max() > 1e-2


def test_its_order_is_counted_over_pairs_of_a_group() -> None:
    surrogate, group = shown({}, 1, count=12), torch.arange(12) // 4
    reward, told = surrogate.kept[-1]["reward"], surrogate.worth()
    reward[1] = reward[0]
    pairs = [(i, j) for i in range(12) for j in range(12) if group[i] == group[j] and reward[i] > reward[j]]
    right = sum(bool(told[i] > told[j]) for i, j in pairs)
    assert surrogate.order(group) == pytest.approx(right / len(pairs)) and len(pairs) == 17
    assert surrogate.order(torch.arange(12)) == 0.5


def test_large_rewards_that_differ_by_little_are_told_apart() -> None:
    """Near 1.7e9 float32 has no numbers between 1.7e9 and 1.7e9 + 128."""
    small, large = ({}, {})
    for step in range(2):
        one, two = shown(small, step), shown(large, step, worth=1.7e9)
        torch.testing.assert_close(two.kept[-1]["reward"], one.kept[-1]["reward"], atol=1e-4, rtol=0)
        one.save(small)
        two.save(large)


def test_it_learns_what_each_prompt_wants_and_its_slope_points_there() -> None:
    memory: dict[str, Any] = {}
    for step in range(30):
        surrogate = shown(memory, step)
        order = surrogate.order(torch.arange(64) % 2)
        surrogate.fit(Rng(("learns", step)))
        surrogate.save(memory)
    assert order > 0.9
    slope, index = surrogate.gradient().flatten(1), surrogate.kept[-1]["index"]
    for prompt in range(2):
        along, across = (
            torch.cosine_similarity(slope[index == prompt], WANTED[p].flatten()[None]).mean()
            for p in (prompt, 1 - prompt)
        )
        assert along > 0.8 and along > across + 0.4


def test_it_goes_on_from_memory_bit_by_bit_and_forgets_what_is_old() -> None:
    """A surrogate that was saved and loaded between iterations says what one says whose memory was copied."""
    memory: dict[str, Any] = {}
    for step in range(8):
        surrogate = shown(memory, step)
        surrogate.fit(Rng(("goes on", step)))
        surrogate.save(memory)
    assert len(memory["surrogate"]["kept"]) == HOW.keep
    first = memory["surrogate"]["kept"][0]["x"]
    assert torch.equal(first, torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(2)).half())
    one, two = (shown(copy.deepcopy(memory), 8) for _ in range(2))
    for each in (one, two):
        each.fit(Rng(("goes on", 8)))
    assert torch.equal(one.worth(), two.worth()) and torch.equal(one.gradient(), two.gradient())
    assert not torch.equal(one.worth(), surrogate.worth())
