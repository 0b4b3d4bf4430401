"""Shares of parts, against all orders by enumeration, closed forms, and the number they come from."""

from __future__ import annotations

import itertools

import torch

from limner.objectives.attribution import orders, prefixes, shapley, shares, subsets


def test_shares_of_parts_are_the_mean_over_all_orders() -> None:
    worth = torch.randn(3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for order in itertools.permutations(range(4)):
        have = 0
        for part in order:
            expected[:, part] += (worth[:, have + 2**part] - worth[:, have]) / 24
            have += 2**part
    torch.testing.assert_close(shapley(worth), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(shapley(worth).sum(1), worth[:, 15] - worth[:, 0], rtol=1e-12, atol=1e-12)


def test_shares_of_a_sum_are_its_terms_and_of_a_product_are_equal() -> None:
    held = subsets(3).double()
    assert held[6].tolist() == [0, 1, 1]
    torch.testing.assert_close(shapley(held @ torch.tensor([1.0, -2, 5]).double()), torch.tensor([1.0, -2, 5]).double())
    torch.testing.assert_close(shapley(6 * held.prod(1)), torch.full((3,), 2.0).double())
    assert shapley(torch.zeros(2, 1)).shape == (2, 0)


def test_over_all_orders_the_estimate_is_exact_and_over_any_it_adds_up() -> None:
    """Worths of all 16 subsets of four parts, read off where each order's prefixes stand."""
    worth = torch.randn(2, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bits = 2 ** torch.arange(4)
    every = torch.tensor(list(itertools.permutations(range(4))))
    at = (prefixes(every) * bits).sum(2)
    assert at[0].tolist() == [0, 1, 3, 7, 15] and at.shape == (24, 5)
    torch.testing.assert_close(shares(worth[:, at], every), shapley(worth), rtol=1e-12, atol=1e-12)
    some = orders(4, 3, torch.Generator().manual_seed(2))
    assert some.shape == (6, 4) and some[3:].equal(some[:3].flip(1)) and (some.sort(1)[0] == torch.arange(4)).all()
    found = shares(worth[:, (prefixes(some) * bits).sum(2)], some)
    torch.testing.assert_close(found.sum(1), worth[:, 15] - worth[:, 0], rtol=1e-12, atol=1e-12)


def test_an_order_and_its_reverse_are_exact_where_parts_act_in_twos() -> None:
    """Of worths with no more than pairwise interactions: each interaction is shared by half by the two together."""
    generator = torch.Generator().manual_seed(3)
    alone, both = (torch.randn(5, *rest, generator=generator, dtype=torch.float64) for rest in ((), (5,)))
    both = both.triu(1)
    one = orders(5, 1, generator)
    held = prefixes(one).double()
    worth = held @ alone + torch.einsum("opi,ij,opj->op", held, both, held)
    torch.testing.assert_close(shares(worth, one), alone + (both + both.T).sum(1) / 2)
