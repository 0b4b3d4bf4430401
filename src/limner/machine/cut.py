"""What a process holds of weights that are cut in parts (`engine/spread.py`), and what a pass brings together of them.

FSDP2 cuts a parameter along its first axis: of n rows each of N processes keeps ceil(n / N), the last ones with zeros
below. Buffers are whole everywhere. A pass makes whole what is around the blocks of a network, R bytes, and then one
block after the other, of which the largest has B: what was received of it, and where it was copied to; in a forward
pass what was received before lives until the copy is made, in a backward one the next block is on its way. Gradients of
what learns, r around blocks and b of one, are whole until they are summed, those of the last block while they are sent.
So beyond the parts, at the peak,

    forward    R + 2 B + max(R, B)
    backward   R + r + max(2 B + 2 b, r)

Source: torch.distributed.fsdp, _fsdp_param_group.py (`wait_for_unshard`, `pre_backward`, `post_backward`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from limner.engine.blocks import blocks_of


@dataclass(frozen=True)
class Held:
    """A parameter: in which network it is and in which block (None: around them), its rows, and what they take."""

    network: int
    block: int | None
    rows: int
    bytes: int
    """Of a row."""
    elements: int
    """Of a row."""
    lora: bool
    learns: bool


@dataclass(frozen=True)
class Cut:
    """What a process holds of weights, in bytes, and what a pass brings together beside it."""

    networks: int
    lora: int
    trained: int
    """Elements that learn."""
    forward: int = 0
    backward: int = 0
    """Of a forward pass and the backward pass behind it."""


def held(networks: Iterable[nn.Module]) -> tuple[Held, ...]:
    """Return all parameters of networks, shared ones once."""
    found: dict[int, Held] = {}
    for number, network in enumerate({id(each): each for each in networks}.values()):
        blocks = {id(p): i for i, block in enumerate(blocks_of(network)) for p in block.parameters()}
        for name, each in network.named_parameters():
            rows = each.shape[0] if each.dim() else 1
            row = each.numel() // rows
            found.setdefault(id(each), Held(
                number, blocks.get(id(each)), rows, row * each.element_size(), row, ".lora_" in name, each.requires_grad
            ))  # fmt: skip
    return tuple(found.values())


def cut(every: Sequence[Held], parts: int, buffers: int) -> Cut:
    """Return what one of `parts` processes has of parameters, each beside all of the `buffers`, in bytes."""
    own = [(each, math.ceil(each.rows / parts)) for each in every]
    whole = [_largest([each for each in every if each.network == number], parts) for number in _numbers(every)]
    forward = max((around + 2 * block + max(around, block) for around, block, _, _ in whole), default=0)
    backward = max((r1 + r2 + max(2 * (b1 + b2), r2) for r1, b1, r2, b2 in whole), default=0)
    return Cut(
        networks=buffers + sum(rows * each.bytes for each, rows in own if not each.lora),
        lora=sum(rows * each.bytes for each, rows in own if each.lora),
        trained=sum(rows * each.elements for each, rows in own if each.learns),
        forward=forward,
        backward=max(forward, backward),
    )


def _numbers(every: Sequence[Held]) -> list[int]:
    return sorted({each.network for each in every})


def _largest(every: Sequence[Held], parts: int) -> tuple[int, int, int, int]:
    """Return R and B of a network, and r and b, with what is padded."""
    sizes: list[dict[int | None, int]] = [{None: 0}, {None: 0}]
    for each in every:
        padded = math.ceil(each.rows / parts) * parts * each.bytes
        for of in sizes if each.learns else sizes[:1]:
            of[each.block] = of.get(each.block, 0) + padded
    (around, block), (learnt, learning) = ((of.pop(None), max(of.values(), default=0)) for of in sizes)
    return around, block, learnt, learning
