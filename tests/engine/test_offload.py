"""Blocks that wait in the machine's memory: the same numbers, and each tensor where it is to be."""

import pytest
import torch
from torch import nn

from limner.core.errors import UserError
from limner.engine.lora import lora
from limner.engine.offload import offload, waiting
from limner.engine.precision import Precision, checkpoint_activations
from pretended_cuda import pretended_cuda

CPU = torch.device("cpu")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.within, self.shift = nn.Linear(6, 6), nn.Parameter(torch.randn(6))
        self.register_buffer("scale", torch.rand(6))

    def forward(self, x):
        return x + nn.functional.gelu(self.within(x) * self.scale + self.shift)


class Down(nn.Module):
    """A block of a network that recomputes what is inside it."""

    def __init__(self):
        super().__init__()
        self.parts, self.run = nn.ModuleList([Block(), Block()]), None

    def forward(self, x):
        for part in self.parts:
            x = part(x) if self.run is None or not torch.is_grad_enabled() else self.run(part, x)
        return x


class Stack(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.enter, self.blocks, self.run = nn.Linear(6, 6), nn.ModuleList([kind(), kind(), kind()]), None

    def enable_gradient_checkpointing(self, run):
        for each in self.modules():
            if isinstance(each, (Stack if not isinstance(self.blocks[0], Down) else Down)):
                each.run = run

    def forward(self, x):
        x = self.enter(x)
        for block in self.blocks:
            x = block(x) if self.run is None or not torch.is_grad_enabled() else self.run(block, x)
        return x


def made(kind, rank):
    torch.manual_seed(0)
    network = Stack(kind)
    weights = lora({"net": network}, rank=rank, alpha=4, targets=["within"], seed=0, old=True, precision=Precision())
    with torch.no_grad():
        for each in weights.parameters().values():
            each.normal_()
    weights.blend_old(0.5)
    checkpoint_activations({"net": network}, weights.replay)
    return network, weights


def answers(weights, x):
    """What each role says, and the gradients of the policy's loss against the old policy's answer."""
    said = {name: weights.networks(name, Precision())["net"](x) for name in ("reference", "old", "policy")}
    (said["policy"] * (said["policy"] - said["old"].detach())).sum().backward()
    return [each.detach() for each in said.values()], [each.grad for each in weights.parameters().values()]


@pytest.mark.parametrize("rank", [1, 4])  # in two products, and in one
@pytest.mark.parametrize("kind", [Block, Down])
def test_values_and_gradients_are_those_of_blocks_that_stay(kind, rank):
    x = torch.randn(5, 6)
    plain = answers(made(kind, rank)[1], x)
    network, weights = made(kind, rank)
    weights, bringing = offload(weights, CPU)
    checkpoint_activations({"net": network}, weights.replay, bringing)
    home = [each for block in network.blocks for _, each in waiting(block)]
    there = []
    for part in network.modules():
        if isinstance(part, Block):
            part.within.register_forward_hook(lambda *_: there.append(len(bringing._there)))
    for mine, theirs in zip(answers(weights, x), plain, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert all(a is b for a, (_, b) in zip(home, (w for block in network.blocks for w in waiting(block)), strict=True))
    assert not bringing._there and set(there) == {len(home) // 3, 4}  # a block, or of it what is computed again


@pytest.mark.parametrize("kind", [Block, Down])
def test_each_tensor_is_where_it_is_to_be(kind):
    """On a pretended card, which refuses operations on tensors of both places; the numbers are those of a CPU."""
    x = torch.randn(5, 6)
    plain = answers(made(kind, 1)[1], x)
    network, weights = made(kind, 1)
    with pretended_cuda() as cuda:
        weights, bringing = offload(weights, cuda)
        checkpoint_activations({"net": network}, weights.replay, bringing)
        found = answers(weights, x.to(cuda))
        assert {each.device for part in found for each in part} == {cuda}
        placed = {name: each.device for name, each in (*network.named_parameters(), *network.named_buffers())}
        assert {each.device for each in (*weights.policy.values(), *weights.old.values())} == {cuda}
    for mine, theirs in zip(found, plain, strict=True):
        assert all(torch.equal(a.cpu(), b) for a, b in zip(mine, theirs, strict=True))
    away = {name for name, place in placed.items() if place.type == "cpu"}
    assert away == {name for name in placed if name.startswith("blocks") and ".lora_" not in name}


def test_a_block_that_fails_goes_home():
    network, weights = made(Block, 1)
    _, bringing = offload(weights, CPU)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), torch.no_grad():
        network.blocks[0](torch.zeros(2, 7))
    assert not bringing._there


def test_what_cannot_wait_is_refused():
    network = nn.Sequential(nn.Linear(2, 2))
    weights = lora({"net": network}, rank=1, alpha=1, targets=["0"], seed=0, old=False, precision=Precision())
    with pytest.raises(UserError, match="a Sequential has no blocks that could wait"):
        offload(weights, CPU)
