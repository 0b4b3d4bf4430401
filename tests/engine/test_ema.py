import math

import pytest
import torch
from torch import nn

from limner.engine.ema import Ema


def run(decay, values):
    parameter = nn.Parameter(torch.tensor([values[0]], dtype=torch.float64))
    ema = Ema({"w": parameter}, decay)
    for value in values[1:]:
        parameter.data.fill_(value)
        ema.update()
    return parameter, ema


@pytest.mark.parametrize("decay", [0.0, 0.15, 0.5, 0.999])
def test_average_is_the_weighted_sum(decay):
    values = [1.0, -2.0, 4.0, 0.5, 3.0, 7.0]
    decays = [min(decay, (1 + n) / (10 + n)) for n in range(5)]
    weights = [math.prod(decays)] + [(1 - decays[k]) * math.prod(decays[k + 1 :]) for k in range(5)]
    assert sum(weights) == pytest.approx(1)
    expected = sum(w * v for w, v in zip(weights, values, strict=True))
    assert run(decay, values)[1].average["w"].item() == pytest.approx(expected, rel=1e-12)


def test_swapped_shows_the_average_and_gives_back_every_bit():
    parameter, ema = run(0.9, [0.1, 0.2, 1 / 3])
    trained, average = parameter.detach().clone(), ema.average["w"].clone()
    for error in (None, ValueError):
        try:
            with ema.swapped():
                assert torch.equal(parameter, average)
                if error:
                    raise error
        except ValueError:
            assert error
        assert torch.equal(parameter, trained)
        assert torch.equal(ema.average["w"], average)
        assert parameter.requires_grad and parameter.is_leaf


def test_a_restored_average_goes_on_alike():
    parameter, ema = run(0.999, [1.0, 2.0, 3.0])
    other = Ema({"w": parameter}, 0.999)
    other.load_state(ema.state())
    for value in (5.0, -1.0):
        parameter.data.fill_(value)
        ema.update()
        other.update()
    assert torch.equal(ema.average["w"], other.average["w"])
    assert other.num_updates == 4
