import pytest
import torch
from torch import nn

from limner.core.errors import UserError
from limner.engine.lora import lora
from limner.engine.precision import Precision, checkpoint_activations


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
