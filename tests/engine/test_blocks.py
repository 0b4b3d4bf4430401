"""Compiled blocks: what they answer, and how many codes are made."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from limner.core.errors import UserError
from limner.engine.blocks import compile_blocks
from limner.engine.lora import lora
from limner.engine.precision import Precision


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.within = nn.Linear(6, 6)

    def forward(self, x):
        return x + nn.functional.gelu(self.within(x))


class Stack(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(count))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize("rank", [1, 4])  # in two products, and in one
def test_compiled_blocks_answer_as_before_under_each_role_and_one_code_serves_all(rank):
    made = []
    for count in (2, 4):  # the input of all but the first has a gradient
        torch.manual_seed(0)
        x, network = torch.randn(2, 6), Stack(count)
        weights = lora(
            {"net": network}, rank=rank, alpha=4, targets=["within"], seed=0, old=True, precision=Precision()
        )
        learned = list(weights.parameters().values())
        with torch.no_grad():
            for part in learned:
                part.normal_()
        weights.blend_old(0.5)
        plain = answers(weights, x, learned)
        counter = CompileCounter()
        torch._dynamo.reset()
        compile_blocks({"net": network}, counter)
        for mine, theirs in zip(answers(weights, x, learned), plain, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
        assert counter.frame_count > 0 and not torch.allclose(plain[0], plain[1])
        made.append(counter.frame_count)
    assert made[0] == made[1]


def answers(weights, x, learned):
    with torch.no_grad():
        seen = [weights.networks(name, Precision())["net"](x) for name in ("policy", "reference", "old")]
    loss = weights.networks("policy", Precision())["net"](x).square().mean()
    return [*seen, *torch.autograd.grad(loss, learned)]


def test_what_cannot_be_compiled_is_refused(toy, monkeypatch):
    with pytest.raises(UserError, match=r"network 'net' \(Linear\) has no blocks to compile"):
        compile_blocks({"net": nn.Linear(2, 2)})
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="needs a C\\+\\+ compiler on a CPU, and none is found: install g\\+\\+"):
        compile_blocks(toy.networks)
