"""A base in 8 or 4 bits: codes by hand, errors within the bounds of their grids, a LoRA that fits the whole base."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from limner.core.edition import Edition
from limner.core.errors import UserError
from limner.engine.lora import lora
from limner.engine.precision import Precision
from limner.models.folder import plain_folder
from limner.models.piped import Piped
from limner.models.quantized import LEVELS, Coded, quantize
from limner.training.config import Full, Model
from piped_cases import CASES, PROMPTS, noise, prediction

SHARES = {"int8": 1 + 4 / 64, "nf4": 0.5 + 4 / 64}
"""Bytes a weight of a layer with 64 inputs: codes, and a scale in float32."""


def linear(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(64, 32)


def test_levels_are_quantiles_of_a_normal_variable() -> None:
    """Eight above 0 and seven below it, equally likely on each side, and 0; the outermost is at 1 - 1/31 on average."""
    outermost = (1 - 1 / 32 + 1 - 1 / 30) / 2
    above, below = norm.ppf(np.linspace(outermost, 0.5, 9))[:-1], -norm.ppf(np.linspace(outermost, 0.5, 8))[:-1]
    derived = np.sort(np.concatenate([above, [0.0], below])) / above[0]
    np.testing.assert_allclose(LEVELS, derived, atol=1e-6)


def test_codes_by_hand() -> None:
    layer = linear()
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, :4] = torch.tensor([2.54, -1.26, 0.019, 0.031])
    eight, four = Coded(layer, "int8", torch.float32), Coded(layer, "nf4", torch.float32)
    assert eight.scale[0].item() == pytest.approx(0.02) and eight.codes[0, :4].tolist() == [127, -63, 1, 2]
    assert eight.weight[0, :4].tolist() == pytest.approx([2.54, -1.26, 0.02, 0.04])
    assert four.codes[:2].tolist() == [15 * 16 + 2, 7 * 16 + 7]  # 1, -.525; nearest of .0075 and .0122 is 0
    assert four.weight[0, :4].tolist() == pytest.approx([2.54, 2.54 * LEVELS[2], 0, 0])
    assert not eight.weight[1:].any() and not four.weight[1:].any()


@pytest.mark.parametrize("kind", SHARES)
def test_weights_are_as_near_as_the_grid_allows(kind: str) -> None:
    layer = linear()
    coded = Coded(layer, kind, torch.float32)
    away = (coded.weight - layer.weight).abs()
    gaps = np.diff(LEVELS).max() / 2
    largest = layer.weight.abs().amax(1, keepdim=True)
    assert (away <= largest * (gaps if kind == "nf4" else 0.5 / 127) * (1 + 1e-5)).all()
    exact = Coded(copy_of(layer, coded.weight), kind, torch.float32)
    torch.testing.assert_close(exact.weight, coded.weight, rtol=1e-6, atol=1e-7)  # what is on the grid stays there


def copy_of(layer: nn.Linear, weight: torch.Tensor) -> nn.Linear:
    other = copy.deepcopy(layer)
    other.weight.data = weight.detach().clone()
    return other


@pytest.mark.parametrize("kind", SHARES)
def test_a_pass_is_that_of_the_numbers_and_keeps_the_codes_alone(kind: str) -> None:
    layer = linear()
    coded = Coded(layer, kind, torch.float32)
    plain = copy_of(layer, coded.weight).requires_grad_(False)
    x, other = (torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda tensor: tensor):
        y = coded(x)
    assert not kept
    torch.testing.assert_close(y, plain(other))
    y.square().sum().backward()
    plain(other).square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)
    held = sum(each.nbytes for name, each in coded.named_buffers() if name != "pairs")
    assert held == SHARES[kind] * layer.weight.numel()


@pytest.mark.parametrize(("kind", "bound"), [("int8", 0.02), ("nf4", 0.25)])
def test_a_lora_over_codes_learns_and_fits_the_whole_base(kind: str, bound: float, tmp_path: Path) -> None:
    """Predictions are near those of the float base. The update that is learnt is exported for that base, and moves it
    as it moved the coded one."""
    case = CASES["flux"]
    whole = Piped.tiny(case.family, tmp_path / "base")
    model = Piped.load(case.family, Edition(str(tmp_path / "base"), quantize=kind), whole.settings)
    network = model.networks["transformer"]
    coded = [name for name, module in network.named_modules() if isinstance(module, Coded)]
    assert coded and all(name.partition(".")[0].endswith("blocks") for name in coded)
    with torch.no_grad():
        base, near = prediction(whole), prediction(model)
        assert 0 < (near - base).norm() < bound * base.norm()
        weights = lora(
            model.networks, rank=4, alpha=8, targets=model.lora_targets, seed=0, old=False, precision=Precision()
        )
        torch.testing.assert_close(prediction(model), near)
    before = {name: each.clone() for name, each in network.named_buffers()}
    learn(model, weights.parameters())
    assert all(torch.equal(each, before[name]) for name, each in network.named_buffers())
    model.export_lora(tmp_path / "export")
    whole.pipeline.load_lora_weights(tmp_path / "export")
    with torch.no_grad():
        moved, expected = prediction(whole) - base, prediction(model) - near
    assert (moved - expected).norm() < 2 * bound * expected.norm() and expected.norm() > 0.05 * near.norm()


def learn(model: Piped, parameters: dict[str, nn.Parameter]) -> None:
    """Bring predictions down, which falls in ten steps."""
    optimizer = torch.optim.Adam(parameters.values(), lr=3e-2)
    losses = []
    x, t, index = noise(model, 2), torch.tensor([0.2, 0.8]), torch.tensor([0, 1])
    condition = model.encode(PROMPTS)
    for _ in range(10):
        loss = model.predict(x, t, condition, index).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("given", "says"),
    [({"train": Full()}, "model.train Full changes it: take Lora"), ({"loras": ("x.safetensors",)}, "model.loras")],
)
def test_what_codes_cannot_do_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Model(quantize="nf4", **given)


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="quantize are of pipelines of diffusers"):
        plain_folder(Edition(str(tmp_path), quantize="int8"))


def test_nothing_is_coded_unless_asked() -> None:
    network = nn.Sequential(linear())
    quantize(network, "none", torch.float32)
    assert type(network[0]) is nn.Linear
    quantize(network, "int8", torch.bfloat16)
    assert isinstance(network[0], Coded) and network[0].weight.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.randn(2, 64)).dtype == torch.bfloat16
