import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from limner.core.errors import UserError
from limner.engine.lora import lora
from limner.engine.precision import Precision, checkpoint_activations, compile_blocks


def test_a_network_runs_in_the_dtype_and_answers_in_float32(toy, inputs, targets):
    exact = toy.predict(*inputs)
    precision = Precision("bfloat16")
    weights = lora(toy.networks, rank=2, alpha=4, targets=targets, seed=0, old=True, precision=precision)
    actor = weights.actor(toy, "policy", precision)
    seen = []
    toy.networks["transformer"].transformer_blocks[0].attn.to_q.base_layer.register_forward_hook(
        lambda module, args, output: seen.append((module.weight.dtype, output.dtype))
    )
    output = actor.predict(*inputs)
    assert seen == [(torch.bfloat16, torch.bfloat16)]
    assert output.dtype == torch.float32
    assert (output - exact).norm() / exact.norm() < 0.02
    assert not torch.equal(output, exact)
    output.square().mean().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in weights.parameters().values())


def test_float32_switches_an_outer_autocast_off(toy, inputs, targets):
    exact = toy.predict(*inputs)
    weights = lora(toy.networks, rank=2, alpha=4, targets=targets, seed=0, old=False, precision=Precision())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(weights.actor(toy, "policy", Precision()).predict(*inputs), exact)


@pytest.mark.parametrize("rank", [2, 4])  # in two products, and in one
@pytest.mark.parametrize("name", ["policy", "reference", "old"])
def test_recomputed_activations_are_those_of_the_role_that_ran(toy, inputs, targets, train, name, rank):
    weights = lora(toy.networks, rank=rank, alpha=4, targets=targets, seed=0, old=True, precision=Precision())
    train(weights, weights.actor(toy, "policy", Precision()))
    weights.blend_old(0.5)
    x, *rest = inputs
    actor = weights.actor(toy, name, Precision())

    def gradient():
        leaf = x.clone().requires_grad_()
        loss = actor.predict(leaf, *rest).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        return leaf.grad

    plain = gradient()
    checkpoint_activations(toy.networks, weights.replay)
    ran = []
    toy.networks["transformer"].transformer_blocks[0].register_forward_pre_hook(lambda *_: ran.append(1))
    assert torch.equal(gradient(), plain)
    assert len(ran) == 3


def test_a_network_without_checkpointing_is_refused():
    with pytest.raises(UserError, match="'net' \\(Linear\\)"):
        checkpoint_activations({"net": nn.Linear(2, 2)})


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.within = nn.Linear(6, 6)

    def forward(self, x):
        return x + nn.functional.gelu(self.within(x))


class Stack(nn.Sequential):
    _repeated_blocks = ("Block",)


@pytest.mark.parametrize("rank", [1, 4])  # in two products, and in one
def test_compiled_blocks_answer_as_before_under_each_role_and_one_code_serves_all(rank):
    made = []
    for count in (2, 4):  # the input of all but the first has a gradient
        torch.manual_seed(0)
        x, network = torch.randn(2, 6), Stack(*(Block() for _ in range(count)))
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
    with pytest.raises(UserError, match=r"network 'net' \(Linear\) names no blocks that it repeats"):
        compile_blocks({"net": nn.Linear(2, 2)})
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="needs a C\\+\\+ compiler on a CPU, and none is found: install g\\+\\+"):
        compile_blocks(toy.networks)
