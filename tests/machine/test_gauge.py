"""Bytes and operations that are told without numbers, against closed forms and against tensors that are there."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from limner.machine.gauge import Gauge, phantoms

N, WIDTH, HIDDEN = 8, 16, 64


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Sigmoid(), nn.Linear(HIDDEN, WIDTH))


def learn(net: nn.Module, x: torch.Tensor) -> Gauge:
    gauge = Gauge(net.parameters())
    with gauge:
        net(x).sum().backward()
    return gauge


def test_products_are_counted() -> None:
    """Forward 2 n k m a layer; backward as much for each weight, and for the input of the second layer."""
    product = 2 * N * WIDTH * HIDDEN
    assert learn(network(), torch.ones(N, WIDTH)).flops == 2 * product + 3 * product


def test_what_lives_is_counted() -> None:
    """Without gradients: a hidden layer, its sigmoid and the result, the first of them gone before the last is made."""
    gauge = Gauge((net := network()).parameters())
    with gauge, torch.no_grad():
        found = net(torch.ones(N, WIDTH))
    hidden, out = 4 * N * HIDDEN, 4 * N * WIDTH
    assert gauge.peak == out + 2 * hidden and gauge.alive == out == found.nbytes


def test_gradients_stay() -> None:
    gauge = learn(net := network(), torch.ones(N, WIDTH))
    assert gauge.alive == sum(each.nbytes for each in net.parameters())


@pytest.mark.parametrize("autocast", [False, True])
def test_a_phantom_takes_what_the_network_takes(autocast: bool) -> None:
    real = network()
    with torch.device("meta"):
        unreal = network()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        known = learn(real, torch.ones(N, WIDTH))
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        phantoms([unreal], mode)
        with mode:
            found = learn(unreal, torch.ones(N, WIDTH))
    assert (found.peak, found.flops, found.alive) == (known.peak, known.flops, known.alive) and found.peak > 0


def test_shared_weights_stay_shared() -> None:
    with torch.device("meta"):
        first = nn.Linear(3, 3)
    second = copy.copy(first)
    phantoms([first, second], FakeTensorMode())
    assert first.weight is second.weight and first.weight.device.type == "cpu" and first.weight.requires_grad


def test_numbers_that_nobody_knows_are_one() -> None:
    with FakeTensorMode(), Gauge():
        x = torch.empty(3)
        assert x.sum().item() == 1 and bool((x > 0).any()) and torch.equal(x, x)


def test_attention_is_seen() -> None:
    """Two products of 50 x 50 x 8 forward, and five backward (the scores once more); no scores are kept."""
    gauge, product = Gauge(), 2 * (2 * 4 * 50 * 50 * 8)
    with FakeTensorMode(), gauge:
        x = torch.empty(2, 4, 50, 8, requires_grad=True)
        found = nn.functional.scaled_dot_product_attention(x, x, x)
        assert gauge.attended == 50 and gauge.flops == 2 * product and gauge.peak < 3 * x.nbytes
        found.sum().backward()
    assert gauge.flops == (2 + 5) * product


def test_a_mask_is_taken_to_be_true_everywhere() -> None:
    """Places of what is true are as many as there could be, and what they choose has that length."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, Gauge() as gauge:
        mask, x = torch.empty(N, dtype=torch.bool), torch.empty(N, WIDTH)
        places = mask.nonzero().flatten()
        chosen = x[places]
    assert places.shape == (N,) and chosen.shape == (N, WIDTH)
    assert gauge.alive >= x.nbytes + chosen.nbytes + places.nbytes


def test_a_mask_and_what_it_leaves_are_all_places() -> None:
    mode = FakeTensorMode()
    with mode, Gauge():
        mask, x = torch.empty(2, N, dtype=torch.bool), torch.empty(N, WIDTH)
        for row in mask:
            assert torch.cat([x[row], x[~row]]).shape == x.shape


def test_experts_share_the_tokens() -> None:
    """Two of four for each: products are those of 2 N tokens, forwards and, but for the gate, twice backwards."""
    experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
    mode = FakeTensorMode()
    phantoms([experts.to("meta")], mode)
    gauge = Gauge(experts.parameters())
    with mode, gauge:
        chosen = torch.topk(torch.empty(N, 4), k=2, dim=-1)[1].view(-1)
        x = torch.empty(2 * N, WIDTH, requires_grad=True)
        y = torch.empty_like(x)
        for i, expert in enumerate(experts):
            y[chosen == i] = expert(x[chosen == i])
        y.sum().backward()
    assert gauge.flops == 3 * 2 * (2 * N) * WIDTH * WIDTH
