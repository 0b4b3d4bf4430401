import time
from copy import deepcopy

import pytest
import torch
from torch import nn

from limner.core.errors import UserError
from limner.engine.lora import lora
from limner.engine.precision import Precision

EXACT = Precision()


def make(toy, targets, rank=4, alpha=8, seed=0, old=True):
    return lora(toy.networks, rank=rank, alpha=alpha, targets=targets, seed=seed, old=old, precision=EXACT)


def test_every_role_starts_as_the_base_exactly(toy, inputs, targets):
    base = toy.predict(*inputs)
    weights = make(toy, targets)
    for name in ("policy", "reference", "old"):
        assert torch.equal(weights.actor(toy, name, EXACT).predict(*inputs), base)
    assert weights.old.keys() == weights.policy.keys()
    assert all(torch.equal(p, weights.policy[name]) for name, p in weights.old.items())


def test_training_moves_the_policy_and_nothing_else(toy, inputs, targets, train):
    base = toy.predict(*inputs)
    frozen = {name: p.clone() for name, p in toy.networks["transformer"].named_parameters()}
    weights = make(toy, targets)
    policy = weights.actor(toy, "policy", EXACT)
    train(weights, policy)
    assert (policy.predict(*inputs) - base).abs().max() > 1e-3
    for name in ("reference", "old"):
        assert torch.equal(weights.actor(toy, name, EXACT).predict(*inputs), base)
    after = {n.replace(".base_layer", ""): p for n, p in toy.networks["transformer"].named_parameters()}
    assert all(torch.equal(after[name], p) for name, p in frozen.items())
    assert {n for n, p in after.items() if p.grad is not None} == {n for n in after if ".default." in n}


def test_the_update_is_alpha_over_rank_b_a():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7))
    base = network[0].weight.detach().clone()
    weights = lora({"net": network}, rank=2, alpha=3, targets=["0"], seed=0, old=True, precision=EXACT)
    a, b = weights.policy["net.0.lora_A.weight"], weights.policy["net.0.lora_B.weight"]
    nn.init.normal_(b)
    x = torch.randn(4, 5)
    expected = x @ (base + 3 / 2 * b @ a).T + network[0].base_layer.bias
    torch.testing.assert_close(network(x), expected)
    with weights.roles["old"].context:
        torch.testing.assert_close(network(x), x @ base.T + network[0].base_layer.bias)


def products(network, x):
    """Return how many products a forward pass of the network takes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler, torch.no_grad():
        network(x)
    return sum(event.count for event in profiler.key_averages() if event.key == "aten::linear")


@pytest.mark.parametrize(("rank", "apart"), [(1, True), (4, False)])
def test_one_product_or_two_have_the_values_and_gradients_of_the_formula(rank, apart):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 12))
    weights = lora({"net": network}, rank=rank, alpha=3, targets=["0"], seed=0, old=True, precision=EXACT)
    a, b = weights.policy["net.0.lora_A.weight"], weights.policy["net.0.lora_B.weight"]
    nn.init.normal_(b)
    base, bias = (p.detach().clone() for p in (network[0].base_layer.weight, network[0].base_layer.bias))
    x, wanted = torch.randn(2, 5, 6).requires_grad_(), torch.randn(2, 5, 12)
    assert products(network, x.detach()) == (3 if apart else 1)

    exact = [p.detach().double().requires_grad_() for p in (x, a, b)]
    output = exact[0] @ base.double().T + 3 / rank * (exact[0] @ exact[1].T) @ exact[2].T + bias.double()
    expected = torch.autograd.grad((output - wanted).square().sum(), exact)
    found = network(x)
    torch.testing.assert_close(found.double(), output, rtol=1e-6, atol=1e-6)
    gradients = torch.autograd.grad((found - wanted).square().sum(), [x, a, b])
    torch.testing.assert_close([g.double() for g in gradients], list(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(network[0].base_layer.weight, base)
    with weights.roles["reference"].context:
        assert torch.equal(network(x), nn.functional.linear(x, base, bias))


def test_a_pass_is_of_the_weights_as_they_are():
    network = nn.Sequential(nn.Linear(6, 6))
    weights = lora({"net": network}, rank=4, alpha=4, targets=["0"], seed=0, old=True, precision=EXACT)
    x, other = torch.randn(2, 6), deepcopy(network)
    before = network(x)
    with torch.no_grad():
        weights.policy["net.0.lora_B.weight"].add_(1.0)
    assert not torch.equal(network(x), before)
    assert torch.equal(other(x), before)  # a copy runs on its own
    with weights.roles["old"].context:
        assert torch.equal(network(x), before)
    weights.blend_old(0.0)
    with weights.roles["old"].context:
        assert not torch.equal(network(x), before)


def test_where_a_sum_would_round_an_update_off_it_stays_beside():
    network = nn.Sequential(nn.Linear(6, 6, bias=False))
    precision = Precision("bfloat16")
    weights = lora({"net": network}, rank=6, alpha=6, targets=["0"], seed=0, old=False, precision=precision)
    with torch.no_grad():
        network[0].base_layer.weight.fill_(1.0)
        weights.policy["net.0.lora_A.weight"].copy_(torch.eye(6))
        weights.policy["net.0.lora_B.weight"].copy_(torch.eye(6) * 2**-10)
    x = torch.tensor([[1.0, -1.0, 0.0, 0.0, 0.0, 0.0]])
    with precision.context(torch.device("cpu")):
        assert network(x)[0, :2].tolist() == [2**-10, -(2**-10)]


def test_old_follows_by_the_formula(toy, inputs, targets, train):
    weights = make(toy, targets)
    policy, old = (weights.actor(toy, name, EXACT) for name in ("policy", "old"))
    train(weights, policy)
    before = {name: p.clone() for name, p in weights.old.items()}
    weights.blend_old(1.0)
    assert all(torch.equal(p, before[name]) for name, p in weights.old.items())
    weights.blend_old(0.7)
    for name, p in weights.old.items():
        torch.testing.assert_close(p, 0.7 * before[name] + 0.3 * weights.policy[name], rtol=1e-6, atol=1e-8)
    weights.blend_old(0.0)
    assert torch.equal(old.predict(*inputs), policy.predict(*inputs))


def test_switching_restores_the_policy_and_leaves_gradients_alone(toy, inputs, targets, train):
    weights = make(toy, targets)
    policy = weights.actor(toy, "policy", EXACT)
    train(weights, policy)
    trained = policy.predict(*inputs)
    with pytest.raises(KeyboardInterrupt), weights.roles["old"].context:
        raise KeyboardInterrupt
    with weights.roles["old"].context, weights.roles["reference"].context, weights.roles["old"].context:
        assert torch.is_grad_enabled()
        assert torch.equal(policy.predict(*inputs), trained)
        assert not torch.equal(toy.predict(*inputs), trained)
        assert all(p.requires_grad for p in weights.policy.values())
        assert not any(p.requires_grad for p in weights.old.values())
    assert torch.equal(toy.predict(*inputs), trained)
    assert not weights.actor(toy, "old", EXACT).predict(*inputs).requires_grad
    assert policy.predict(*inputs).requires_grad


def test_gradients_flow_through_the_frozen_roles_to_the_input(toy, inputs, targets):
    x, *rest = inputs
    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad(toy.predict(leaf, *rest).sum(), leaf)[0]
    weights = make(toy, targets)
    for name in ("reference", "old"):
        output = weights.actor(toy, name, EXACT).predict(leaf, *rest)
        assert torch.equal(torch.autograd.grad(output.sum(), leaf)[0], expected)


def test_switching_forty_layers_takes_under_three_tenths_of_a_millisecond():
    network = nn.Sequential(*[nn.Linear(2, 2) for _ in range(40)])
    weights = lora(
        {"net": network}, rank=1, alpha=1, targets=[str(i) for i in range(40)], seed=0, old=True, precision=EXACT
    )

    def seconds():
        start = time.perf_counter()
        for _ in range(100):
            with weights.roles["old"].context:
                pass
        return (time.perf_counter() - start) / 100

    assert min(seconds() for _ in range(5)) < 0.3e-3


def test_the_start_depends_on_the_seed_alone():
    def start(seed):
        network = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
        return lora({"n": network}, rank=2, alpha=2, targets=["0", "1"], seed=seed, old=False, precision=EXACT).policy

    first = start(0)
    torch.manual_seed(5)
    again, other = start(0), start(1)
    assert list(first) == ["n.0.lora_A.weight", "n.0.lora_B.weight", "n.1.lora_A.weight", "n.1.lora_B.weight"]
    assert all(torch.equal(p, again[name]) for name, p in first.items())
    assert not torch.equal(first["n.0.lora_A.weight"], other["n.0.lora_A.weight"])


def test_a_target_that_is_no_linear_layer_is_refused_before_anything_changes(toy, targets):
    for wrong in ("attn.to_x", "attn", "to_"):
        with pytest.raises(UserError, match=f"'{wrong}' is no linear layer of network 'transformer'"):
            make(toy, [*targets, wrong])
    with pytest.raises(UserError, match="did you mean 'to_q'"):
        make(toy, ["to_qq"])
    with pytest.raises(UserError, match="no target"):
        make(toy, [])
    assert not any("lora" in name for name, _ in toy.networks["transformer"].named_parameters())


def test_state_comes_back_and_foreign_state_is_refused(toy, inputs, targets, train):
    weights = make(toy, targets)
    policy, old = (weights.actor(toy, name, EXACT) for name in ("policy", "old"))
    train(weights, policy)
    weights.blend_old(0.5)
    train(weights, policy)
    state = {part: {name: x.clone() for name, x in tensors.items()} for part, tensors in weights.state().items()}
    expected = policy.predict(*inputs), old.predict(*inputs)
    train(weights, policy)
    weights.blend_old(0.0)
    weights.load_state(state)
    assert torch.equal(policy.predict(*inputs), expected[0])
    assert torch.equal(old.predict(*inputs), expected[1])
    assert all(p.requires_grad and p.is_leaf for p in weights.parameters().values())
    name = next(iter(state["old"]))
    with pytest.raises(UserError, match="1 of old do not match"):
        weights.load_state({**state, "old": {k: x for k, x in state["old"].items() if k != name}})
    with pytest.raises(UserError, match="has shape"):
        weights.load_state({**state, "old": {k: x[:1] for k, x in state["old"].items()}})


def test_a_weight_decomposed_update_has_the_values_and_gradients_of_the_formula():
    """Each row is m V / ||V||, V = base + alpha / sqrt(rank) B A; no gradient flows through the norm (DoRA, 4.3)."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5))
    base, bias = (p.detach().clone().double() for p in (network[0].weight, network[0].bias))
    weights = lora(
        {"net": network}, rank=4, alpha=3, targets=["0"], seed=0, old=True, precision=EXACT, dora=True, rslora=True
    )
    x = torch.randn(7, 6)
    torch.testing.assert_close(network(x).double(), x.double() @ base.T + bias, rtol=1e-6, atol=1e-6)
    names = ["net.0.lora_A.weight", "net.0.lora_B.weight", "net.0.lora_magnitude_vector.weight"]
    assert sorted(weights.policy) == sorted(weights.old) == names
    for each in weights.policy.values():
        nn.init.normal_(each)
    a, b, m = (weights.policy[name].detach().double().requires_grad_() for name in names)
    v = base + 3 / 2 * b @ a
    output = x.double() @ (m / v.detach().norm(dim=1) * v.T) + bias
    expected = torch.autograd.grad(output.square().sum(), [a, b, m])
    found = network(x)
    torch.testing.assert_close(found.double(), output, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad(found.square().sum(), [weights.policy[name] for name in names])
    torch.testing.assert_close([g.double() for g in gradients], list(expected), rtol=1e-4, atol=1e-4)
    with weights.roles["old"].context:
        torch.testing.assert_close(network(x).double(), x.double() @ base.T + bias, rtol=1e-6, atol=1e-6)


def test_a_pattern_chooses_the_linear_layers_whose_whole_names_match(toy):
    names = [name for name, module in toy.networks["transformer"].named_modules() if isinstance(module, nn.Linear)]
    weights = lora(toy.networks, rank=1, alpha=1, targets=(), pattern=".*to_[qk]", seed=0, old=False, precision=EXACT)
    trained = {name.removeprefix("transformer.").removesuffix(".lora_A.weight") for name in weights.policy}
    wanted = {name for name in names if name.endswith(("to_q", "to_k"))}
    assert wanted and wanted == {name for name in trained if "lora_B" not in name}
    for wrong, says in {"to_q": "no linear layer of network 'transformer'", "(": "no regular expression"}.items():
        with pytest.raises(UserError, match=says):
            lora(toy.networks, rank=1, alpha=1, targets=(), pattern=wrong, seed=0, old=False, precision=EXACT)
