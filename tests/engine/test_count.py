"""Network evaluations are counted: one sample through the network once, copies included."""

from __future__ import annotations

import copy

import torch
from torch import nn

from limner.engine.count import count_evaluations


def test_samples_are_counted_through_the_network_and_later_copies() -> None:
    network = nn.Bilinear(2, 2, 1)
    before = copy.deepcopy(network)
    counted = count_evaluations({"network": network})
    network(torch.zeros(3, 2), input2=torch.zeros(3, 2))
    with torch.no_grad():
        network(input1=torch.zeros(4, 2), input2=torch.zeros(4, 2))
    copy.deepcopy(network)(torch.zeros(5, 2), torch.zeros(5, 2))
    before(torch.zeros(7, 2), torch.zeros(7, 2))
    assert counted() == 12
