"""What networks take that have rows of equal blocks, told from networks in which these rows are cut short.

All blocks of a row cost the same, and each is run by the same code: operations grow by as many with each block. So does
the peak, once it is that of a long row. It is looked for in laps, which end when a network has been passed through, and
with the backward pass. At any moment of a lap some blocks have behind them what they keep, and others do not yet, or no
longer, or have gradients: that is as many bytes each, beside what does not depend on the row's length. So a block adds
to no moment more than to one of these: where the lap begins and ends, and where the last block has been run (before
autocast gives up its copies). Call that M bytes. A lap's peak that grows by M from d blocks to d + 1 does so from there
on, for a maximum of straight lines is convex. Where it grows by so much less that a thousandth could be missing, twice
as many blocks are tried, and where that saves nothing, all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

from torch import nn

from limner.engine.blocks import lists_of
from limner.machine.gauge import Gauge, Lap

SHORT = 2
"""Blocks of a row that are run at first."""
SLACK = 1e-3
"""By what share of the whole a peak may be told too low."""


@dataclass(frozen=True)
class Taken:
    """What a pass took: bytes in its laps, and operations."""

    laps: Sequence[Lap]
    flops: int
    evaluations: int
    """Of samples, by the networks."""
    attended: int
    """The longest sequence that attention ran over."""

    @property
    def peak(self) -> int:
        """The most bytes at once."""
        return max(lap.peak for lap in self.laps)


@dataclass(frozen=True)
class Row:
    """Equal blocks one after the other, in a list of each of the networks that are copies of one another."""

    lists: tuple[nn.ModuleList, ...]
    start: int
    length: int


def rows(networks: Iterable[nn.Module]) -> list[Row]:
    """Return the rows of equal blocks of networks, those of the same name and form together; shared lists once."""
    found: dict[tuple[str, int, int], list[nn.ModuleList]] = {}
    for network in {id(each): each for each in networks}.values():
        for name, blocks in lists_of(network):
            start = 0
            for _, row in groupby(blocks, _form):
                length = len(list(row))
                lists = found.setdefault((name, start, length), [])
                if not any(blocks is each for each in lists):
                    lists.append(blocks)
                start += length
    return [Row(tuple(lists), start, length) for (_, start, length), lists in found.items()]


def _form(block: nn.Module) -> tuple[object, ...]:
    """Return what equal blocks have in common: their modules, and the form of each tensor."""
    tensors = [(n, p.shape, p.dtype, p.requires_grad) for n, p in (*block.named_parameters(), *block.named_buffers())]
    return repr(block), tuple(tensors)


@contextmanager
def measured(gauge: Gauge, networks: Iterable[nn.Module], every: Sequence[Row]) -> Iterator[None]:
    """Let a gauge note when the last block of a list has been run, and tell laps by what passes through networks."""
    lists = {id(each): each for row in every for each in row.lists}.values()
    hooks = [each[-1].register_forward_hook(lambda *_: gauge.note()) for each in lists]
    hooks += [
        each.register_forward_hook(lambda *_: gauge.lap()) for each in {id(each): each for each in networks}.values()
    ]
    try:
        with gauge:
            yield
        gauge.lap()
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _short(lengths: Mapping[int, int], every: Sequence[Row]) -> Iterator[None]:
    """Have of rows, by their places, as many blocks as `lengths` say; those of a list from its end on."""
    whole = {id(each): (each, dict(each._modules)) for row in every for each in row.lists}
    dropped: dict[int, set[int]] = {}
    for place, length in lengths.items():
        row = every[place]
        for each in row.lists:
            dropped.setdefault(id(each), set()).update(range(row.start + length, row.start + row.length))
    try:
        for key, (each, modules) in whole.items():
            left = [block for i, block in enumerate(modules.values()) if i not in dropped.get(key, ())]
            each._modules = {str(i): block for i, block in enumerate(left)}
        yield
    finally:
        for each, modules in whole.values():
            each._modules = modules


def told(every: Sequence[Row], run: Callable[[], Taken]) -> Taken:
    """Return what `run` takes with whole rows, from as few blocks as tell it.

    A network that asks for its blocks by their numbers, or knows from them what each is given, is run whole.
    """
    try:
        return _told(every, run)
    except (IndexError, TypeError):
        return run()


def _told(every: Sequence[Row], run: Callable[[], Taken]) -> Taken:
    total, depth = sum(row.length for row in every), SHORT
    while True:
        short = {place: depth for place, row in enumerate(every) if row.length > depth + 1}
        fewer = total - sum(every[place].length - depth for place in short)
        if not short or (2 + len(short)) * fewer + len(short) > total / 2:
            return run()
        if depth == SHORT:  # what networks make in their first pass and keep would be taken for a block's
            with _short(short, every):
                run()
        if (found := _extended(every, short, run)) is not None:
            return found
        depth *= 2


def _extended(every: Sequence[Row], short: Mapping[int, int], run: Callable[[], Taken]) -> Taken | None:
    """Return what whole rows take by what short ones do, and one block more of each; None if that cannot be told."""
    with _short(short, every):
        base = run()
    laps, flops = [lap.peak for lap in base.laps], base.flops
    for place, depth in short.items():
        with _short({**short, place: depth + 1}, every):
            more = run()
        times = every[place].length - depth
        for i, (now, before) in enumerate(zip(more.laps, base.laps, strict=True)):
            grown = now.peak - before.peak
            most = max(one - other for one, other in zip(now.alive, before.alive, strict=True))
            if (most - grown) * times > SLACK * (now.peak + times * most):
                return None
            laps[i] += times * grown
        flops += times * (more.flops - base.flops)
    return replace(base, laps=[Lap([], peak) for peak in laps], flops=flops)
