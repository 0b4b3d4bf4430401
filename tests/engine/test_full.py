import pytest
import torch
from diffusers import SD3Transformer2DModel

from limner.core.types import Prompt
from limner.engine.count import count_evaluations
from limner.engine.full import full
from limner.engine.precision import Precision

EXACT = Precision()


def test_training_moves_the_policy_and_nothing_else(toy, inputs, train):
    base = toy.predict(*inputs)
    weights = full(toy.networks, reference=True, old=True)
    actors = {name: weights.actor(toy, name, EXACT) for name in ("policy", "reference", "old")}
    assert all(torch.equal(actor.predict(*inputs), base) for actor in actors.values())
    train(weights, actors["policy"])
    assert (actors["policy"].predict(*inputs) - base).abs().max() > 1e-3
    assert torch.equal(actors["reference"].predict(*inputs), base)
    assert torch.equal(actors["old"].predict(*inputs), base)
    assert not actors["old"].predict(*inputs).requires_grad


def test_old_follows_by_the_formula_and_state_comes_back(toy, inputs, train):
    weights = full(toy.networks, reference=False, old=True)
    policy, old = (weights.actor(toy, name, EXACT) for name in ("policy", "old"))
    train(weights, policy)
    before = {name: p.clone() for name, p in weights.old.items()}
    weights.blend_old(0.9)
    for name, p in weights.old.items():
        torch.testing.assert_close(p, 0.9 * before[name] + 0.1 * weights.policy[name], rtol=1e-6, atol=1e-7)
    state = {part: {name: x.clone() for name, x in tensors.items()} for part, tensors in weights.state().items()}
    expected = policy.predict(*inputs), old.predict(*inputs)
    train(weights, policy)
    weights.blend_old(0.0)
    assert torch.equal(old.predict(*inputs), policy.predict(*inputs))
    weights.load_state(state)
    assert torch.equal(policy.predict(*inputs), expected[0])
    assert torch.equal(old.predict(*inputs), expected[1])


def test_what_is_trained_is_float32_and_what_is_not_needed_is_no_copy(toy):
    toy.networks["transformer"].bfloat16()
    weights = full(toy.networks, reference=False, old=False)
    assert {p.dtype for p in weights.parameters().values()} == {torch.float32}
    assert weights.parameters().keys() == {
        f"transformer.{n}" for n, _ in toy.networks["transformer"].named_parameters()
    }
    assert weights.state()["old"] == {}
    weights.blend_old(0.5)
    with pytest.raises(KeyError):
        weights.actor(toy, "reference", EXACT)


def test_an_actor_is_the_model_in_all_else(toy):
    actor = full(toy.networks, reference=True, old=False).actor(toy, "reference", EXACT)
    assert actor.networks["transformer"] is not toy.networks["transformer"]
    assert (actor.schedule, actor.prediction, actor.latent()) == (toy.schedule, "velocity", toy.latent())
    assert torch.equal(actor.times(4), toy.times(4))
    assert actor.encode([Prompt("two"), Prompt("three")])["length"].tolist() == [3, 5, 0]
    assert torch.equal(actor.decode(torch.ones(2, 4, 4, 4)).pixels, torch.ones(2, 3, 4, 4))


def test_a_role_runs_the_network_itself(toy, inputs):
    """Its settings, its parameters, its hooks, once each; only the forward pass is the role's."""
    network = toy.networks["transformer"]
    counted, seen = count_evaluations(toy.networks), []
    role = full(toy.networks, reference=False, old=False).actor(toy, "policy", Precision("bfloat16"))
    found = role.networks["transformer"]
    network.norm_out.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    assert role.predict(*inputs).dtype == torch.float32 and toy.predict(*inputs).dtype == torch.float32
    assert counted() == 6 and seen == [True, False]
    assert isinstance(found, SD3Transformer2DModel) and found.config is network.config
    pairs = zip(found.named_parameters(), network.named_parameters(), strict=True)
    assert all(one[0] == two[0] and one[1] is two[1] for one, two in pairs)
