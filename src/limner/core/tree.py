"""Trees of tensors: map, select rows, concatenate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from limner.core.transfer import sent
from limner.core.types import Tree


def tree_map(function: Callable[[Tensor], Any], tree: Tree) -> Tree:
    """Apply `function` to every tensor of a nested dict, tuple, list or dataclass; other leaves stay."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: tree_map(function, value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [tree_map(function, value) for value in tree]
        return type(tree)(parts) if type(tree) in (tuple, list) else type(tree)(*parts)  # a NamedTuple
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        changed = {f.name: tree_map(function, vars(tree)[f.name]) for f in dataclasses.fields(tree)}
        return dataclasses.replace(tree, **changed)
    return tree


def leaves(tree: Tree) -> Iterator[Tensor]:
    """Yield the tensors of a tree in a fixed order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from (leaf for value in tree.values() for leaf in leaves(value))
    elif isinstance(tree, (tuple, list)):
        yield from (leaf for value in tree for leaf in leaves(value))
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        yield from (leaf for field in dataclasses.fields(tree) for leaf in leaves(vars(tree)[field.name]))


def select(tree: Tree, index: Tensor) -> Tree:
    """Return rows `index` (integers or a mask over the leading axis) of every tensor."""
    return tree_map(lambda x: x[sent(index, x.device)], tree)


def at(tree: Tree, row: Tensor, column: Tensor) -> Tree:
    """Return elements (row, column) of the two leading axes of every tensor."""
    return tree_map(lambda x: x[sent(row, x.device), sent(column, x.device)], tree)


class Joined:
    """Trees of rows that come a part at a time, as one of `rows` rows: in memory are all of them and one part."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.filled = 0
        self.tree: Tree = None
        """What has come, in order; the rows after `filled` say nothing."""

    def add(self, part: Tree) -> None:
        """Put the next rows where they belong. Raises ValueError for more rows than there are."""
        count = len(next(leaves(part)))
        first, self.filled = self.filled, self.filled + count
        if self.filled > self.rows:
            raise ValueError(f"{self.filled} rows have come, and there are {self.rows}")
        if count == self.rows:
            self.tree = part
            return
        if first == 0:
            self.tree = tree_map(lambda leaf: leaf.new_empty(self.rows, *leaf.shape[1:]), part)
        for whole, new in zip(leaves(self.tree), leaves(part), strict=True):
            whole[first : self.filled] = new


def concatenate(trees: Sequence[Tree]) -> Tree:
    """Join trees of one structure along the leading axis."""
    columns = [list(leaves(tree)) for tree in trees]
    joined = iter([torch.cat(parts) for parts in zip(*columns, strict=True)])
    return tree_map(lambda _: next(joined), trees[0])
