"""Rows of equal blocks that are cut short tell what whole ones take: by lines, and of models to the byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from limner.machine import cost
from limner.machine.cost import sizes
from limner.machine.gauge import Gauge, Lap, phantoms
from limner.machine.stack import Row, Taken, measured, rows, told
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.registry.find import find
from limner.registry.names import ADAPTERS
from limner.training.config import Lora, Model

SMALL = {"prompts_per_step": 2, "group_size": 4, "micro_batch": 8, "evaluation.prompts": "", "device": "cpu"}
FLOW = {"algorithm": "FlowGRPO", "sampler.dynamics": "FlowSDE", "sampler.steps": 4}


class Lined(nn.Module):
    """Blocks in rows of so many, each row of another width."""

    def __init__(self, *lengths: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Linear(width, width) for width, many in enumerate(lengths, 1) for _ in range(many)
        )


def test_rows_are_of_equal_blocks() -> None:
    """Of a copy they are the same rows; a list that two networks share is there once."""
    first, copy, shared = Lined(3, 4, 1), Lined(3, 4, 1), Lined()
    shared.blocks = first.blocks
    found = rows([first, copy, shared, first])
    assert [(row.start, row.length) for row in found] == [(0, 3), (3, 4), (7, 1)]
    assert all(row.lists == (first.blocks, copy.blocks) for row in found)


@pytest.mark.parametrize(
    ("grows", "left", "runs"),
    [
        ([(500, 10)], 0, [2, 2, 3]),  # what is kept for the backward pass
        ([(500, 10), (430, 30)], 30, [2, 2, 3, 4, 5]),  # gradients, from four blocks on
        ([(500, 10), (360, 30)], 30, [2, 2, 3, 4, 5, 8, 9]),  # and from seven on
        ([(500, 10), (200, 30)], 30, [2, 2, 3, 4, 5, 8, 9, 60]),  # so late that all are run
        ([(500, 0)], 0, [2, 2, 3]),  # without gradients nothing is kept
    ],
)
def test_a_peak_of_lines(grows: list[tuple[int, int]], left: int, runs: list[int]) -> None:
    """The peak of n blocks is the highest of lines, of which none is steeper than what a block keeps, or leaves."""
    blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(60))
    seen: list[int] = []

    def run() -> Taken:
        seen.append(n := len(blocks))
        peak = max(first + each * n for first, each in grows)
        return Taken([Lap([0, 7 + grows[0][1] * n, left * n], peak)], 5 * n + 1, 1, 9)

    found = told([Row((blocks,), 0, 60)], run)
    assert seen == runs and [*blocks._modules] == [str(i) for i in range(60)]
    assert (found.peak, found.flops) == (max(first + 60 * each for first, each in grows), 301)
    assert (found.evaluations, found.attended) == (1, 9)


def test_a_network_that_asks_for_its_blocks_by_number_is_run_whole() -> None:
    blocks, seen = nn.ModuleList(nn.Linear(2, 2) for _ in range(60)), list[int]()

    def run() -> Taken:
        seen.append(len(blocks))
        return Taken([Lap([0], blocks[59].in_features)], 5, 1, 9)

    assert told([Row((blocks,), 0, 60)], run).peak == 2 and seen == [2, 60]


def test_of_two_rows_each_is_told_by_itself() -> None:
    """Blocks of the second row follow those of the first in one list; each row is lengthened alone."""
    whole, seen = Lined(20, 30, 1), list[tuple[int, int, int]]()
    every = rows([whole])

    def run() -> Taken:
        first, second, last = (sum(f"in_features={width}" in repr(b) for b in whole.blocks) for width in (1, 2, 3))
        seen.append((first, second, last))
        laps = [Lap([3 * first + 5 * second], 3 * first + 5 * second + last)]
        return Taken(laps, 7 * first + 11 * second, 1, 0)

    found = told(every, run)
    assert (found.peak, found.flops) == (3 * 20 + 5 * 30 + 1, 7 * 20 + 11 * 30)
    assert seen == [(2, 2, 1), (2, 2, 1), (3, 2, 1), (2, 3, 1)]


class Block(nn.Module):
    """Two layers of which one learns, and what an activation keeps."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.up.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.gelu(self.up(x)))


class Network(nn.Module):
    """Rows of blocks, between layers that are frozen."""

    def __init__(self, *rows: tuple[int, int]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        self.blocks = nn.ModuleList(Block(8, hidden) for many, hidden in rows[:1] for _ in range(many))
        self.others = nn.ModuleList(Block(8, hidden) for many, hidden in rows[1:] for _ in range(many))

    def forward(self, x: Tensor, again: bool, half: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            x = self.first(x)
            for block in (*self.blocks, *self.others):
                x = checkpoint(block, x, use_reentrant=False) if again else block(x)
            return self.last(x)


ONE, TWO = ((16, 16),), ((20, 16), (20, 24))
"""How many blocks of which width rows have."""


@pytest.mark.parametrize(
    ("rows_of", "batch", "learns", "again", "half"),
    [
        (TWO, 2, False, False, False),
        (ONE, 2, False, False, True),  # autocast's copies stay until the pass ends
        (TWO, 2, True, False, False),  # gradients are more than what is kept
        (TWO, 600, True, False, False),
        (ONE, 600, True, False, True),
        (ONE, 600, True, True, False),
        (ONE, 600, True, True, True),
    ],
)
def test_what_few_blocks_tell_is_what_all_take(
    rows_of: tuple[tuple[int, int], ...], batch: int, learns: bool, again: bool, half: bool
) -> None:
    """To the byte, but that copies of biases by autocast, which go with the pass, may be missing."""
    with torch.device("meta"):
        network = Network(*rows_of)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    phantoms([network], mode)
    every, passed = rows([network]), [0]

    def run() -> Taken:
        gauge = Gauge(network.parameters())
        passed[0] += len(network.blocks) + len(network.others)
        with mode, measured(gauge, [network], every), torch.set_grad_enabled(learns):
            found = network(torch.empty(batch, 8), again, half)
            if learns:
                found.float().sum().backward()
        network.zero_grad()
        return Taken(gauge.laps, gauge.flops, batch, 0)

    found = told(every, run)
    few, whole = passed[0], run()
    assert (found.flops, found.evaluations) == (whole.flops, batch)
    assert found.peak == whole.peak or (half and 0 < whole.peak - found.peak < 1e-3 * whole.peak)
    assert few < 0.6 * (passed[0] - few)


def test_a_model_is_told_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Wan in miniature with fourteen blocks."""
    model = find(ADAPTERS, "model kind", "wan").tiny()
    small = type(model.pipeline.transformer)
    with torch.device("meta"):
        model.pipeline.transformer = small.from_config({**model.pipeline.transformer.config, "num_layers": 14})
    monkeypatch.setattr(cost, "blueprint", lambda path: (model.pipeline.to("meta"), "wan", "a miniature"))
    monkeypatch.setattr(cost, "FEW", (2,))
    config = override(recipe("scenes"), {**SMALL, **FLOW})
    config = replace(config, model=Model("wan", "miniature", model.settings, Lora(4)))
    found = sizes(config)
    monkeypatch.setattr(cost, "rows", lambda networks: [])
    assert sizes(config) == found
