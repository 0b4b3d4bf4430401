"""Trees of tensors, and the split of samples over optimizer steps."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from limner.core.rng import Rng
from limner.core.tree import Joined, concatenate, leaves, select, tree_map
from limner.learning.passes import partition


@dataclass(frozen=True)
class Pair:
    first: Tensor
    rest: dict[str, Tensor]
    name: str = "pair"


def pair(offset: int) -> Pair:
    return Pair(torch.arange(3) + offset, {"a": torch.arange(6).view(3, 2) + offset})


def test_select_takes_rows_of_every_tensor_and_leaves_the_rest():
    taken = select((pair(0), None), torch.tensor([2, 0]))
    assert taken[0].first.tolist() == [2, 0] and taken[0].rest["a"].tolist() == [[4, 5], [0, 1]]
    assert taken[0].name == "pair" and taken[1] is None
    assert select(pair(0), torch.tensor([False, True, False])).first.tolist() == [1]


def test_concatenate_undoes_a_split():
    whole = pair(0)
    parts = [select(whole, torch.tensor([0])), select(whole, torch.tensor([1, 2]))]
    assert all(torch.equal(a, b) for a, b in zip(leaves(concatenate(parts)), leaves(whole), strict=True))


def test_structures_must_agree():
    with pytest.raises(ValueError):
        concatenate([{"a": torch.zeros(1)}, {"a": torch.zeros(1), "b": torch.zeros(1)}])


def test_parts_are_joined_as_they_come():
    """Each part may go once it was added; one that is everything stays as it is."""
    joined, parts = Joined(9), [pair(0), pair(10), pair(20)]
    for part in parts:
        joined.add((part, None))
    for whole, expected in zip(leaves(joined.tree), leaves(concatenate([(part, None) for part in parts])), strict=True):
        assert torch.equal(whole, expected) and whole.dtype == expected.dtype
    assert joined.tree[1] is None and joined.tree[0].name == "pair"
    with pytest.raises(ValueError, match="12 rows have come, and there are 9"):
        joined.add((pair(30), None))
    alone = Joined(3)
    alone.add(parts[0])
    assert alone.tree is parts[0]


def test_map_keeps_the_structure():
    doubled = tree_map(lambda x: 2 * x, [pair(1), {"x": torch.ones(2)}])
    assert doubled[0].first.tolist() == [2, 4, 6] and doubled[1]["x"].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(("rows", "parts"), [(10, 3), (4, 4), (2, 5), (7, 1), (0, 2)])
def test_partition_covers_every_row_once_in_near_equal_parts(rows, parts):
    index = torch.arange(rows) * 3
    made = partition(index, parts, Rng((0,)))
    assert sorted(torch.cat(made).tolist() if made else []) == index.tolist()
    sizes = [len(part) for part in made]
    assert len(made) == min(rows, parts) and (not sizes or max(sizes) - min(sizes) <= 1)


def test_partition_is_random_and_repeats():
    index = torch.arange(20)
    first, again, other = (partition(index, 2, Rng((seed,)))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
