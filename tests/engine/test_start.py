"""Exported updates and networks, read back in every form that limner, diffusers and peft write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import nn

from limner.core.errors import UserError
from limner.engine.lora import lora
from limner.engine.precision import Precision
from limner.engine.start import start_from
from limner.engine.weights import Weights

A, B = torch.arange(6.0).reshape(2, 3), torch.arange(8.0).reshape(4, 2) / 7
PEFT = {"r": 2, "lora_alpha": 6}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"to_q": nn.Linear(3, 4), "to_k": nn.Linear(3, 4)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block["to_q"](x)


def trained(
    net: Net, rank: int = 2, alpha: int = 4, targets: tuple[str, ...] = ("to_q",), dora: bool = False
) -> Weights:
    how = {"rank": rank, "alpha": alpha, "targets": targets, "dora": dora}
    return lora({"net": net}, **how, seed=0, old=True, precision=Precision("float32"))


def metadata(**values: object) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps({f"net.{key}": value for key, value in values.items()})}


FORMS: dict[str, tuple[str, str, dict[str, str], dict[str, object], float]] = {
    "limner": ("net.block.to_q.lora_A.weight", "net.block.to_q.lora_B.weight", metadata(**PEFT), {}, 3.0),
    "no metadata": ("net.block.to_q.lora_A.weight", "net.block.to_q.lora_B.weight", {}, {}, 1.0),
    "old diffusers": ("net.block.to_q.lora.down.weight", "net.block.to_q.lora.up.weight", {}, {}, 1.0),
    "peft": (
        "base_model.model.block.to_q.lora_A.weight", "base_model.model.block.to_q.lora_B.weight", {}, PEFT, 3.0,
    ),
    "rank stabilised": (
        "block.to_q.lora_A.weight", "block.to_q.lora_B.weight", {}, {**PEFT, "use_rslora": True}, 6 / 2**0.5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form: str, tmp_path: Path) -> None:
    """W x + s B A x, merged, or as the updates that are trained, of policy and old policy, whatever their own alpha."""
    a, b, said, config, scale = FORMS[form]
    save_file({a: A, b: B}, tmp_path / "some.safetensors", said)
    if config:
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    x = torch.randn(5, 3)
    merged, net = Net(), Net()
    net.load_state_dict(merged.state_dict())
    expected = merged(x) + scale * x @ A.T @ B.T
    updates = start_from(str(tmp_path), {"net": merged})
    assert updates is not None
    updates.merge({"net": merged})
    assert torch.allclose(merged(x), expected, atol=1e-5)
    weights = trained(net)
    updates.into(weights, {"net": net})
    for role in ("policy", "old"):
        with weights.roles[role].context:
            assert torch.allclose(net(x), expected, atol=1e-5)


def test_what_peft_saves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, base = Net(), Net()
    base.load_state_dict(net.state_dict())
    model = get_peft_model(net, LoraConfig(r=2, lora_alpha=5, target_modules=["to_q"], init_lora_weights=False))
    model.save_pretrained(tmp_path)
    x = torch.randn(5, 3)
    updates = start_from(str(tmp_path), {"net": base})
    assert updates is not None
    updates.merge({"net": base})
    assert torch.allclose(base(x), model(x), atol=1e-6)


@pytest.mark.parametrize("rslora", [False, True])
def test_a_dora_goes_on_as_peft_left_it(rslora: bool, tmp_path: Path) -> None:
    """m (W + s B A) / |W + s B A|, merged, or as the updates and lengths that are trained."""
    torch.manual_seed(0)
    net, base, other = Net(), Net(), Net()
    for each in (base, other):
        each.load_state_dict(net.state_dict())
    config = LoraConfig(
        r=2, lora_alpha=5, target_modules=["to_q"], init_lora_weights=False, use_dora=True, use_rslora=rslora
    )
    model = get_peft_model(net, config)
    with torch.no_grad():
        for name, lengths in model.named_parameters():
            if "magnitude" in name:
                lengths.mul_(torch.linspace(0.5, 2.0, len(lengths)))
    model.save_pretrained(tmp_path)
    x = torch.randn(5, 3)
    updates = start_from(str(tmp_path), {"net": base})
    assert updates is not None
    updates.merge({"net": base})
    assert torch.allclose(base(x), model(x), atol=1e-6)
    weights = trained(other, alpha=7, dora=True)
    updates.into(weights, {"net": other})
    for role in ("policy", "old"):
        with weights.roles[role].context:
            assert torch.allclose(other(x), model(x), atol=1e-6)
    plain = Net()
    with pytest.raises(UserError, match="set model.train.dora as it was"):
        updates.into(trained(plain), {"net": plain})


def test_a_network_in_two_files(tmp_path: Path) -> None:
    given, net = Net(), Net()
    state = given.state_dict()
    names = sorted(state)
    save_file({name: state[name] for name in names[:2]}, tmp_path / "model-1.safetensors")
    save_file({name: state[name] for name in names[2:]}, tmp_path / "model-2.safetensors")
    assert start_from(str(tmp_path), {"net": net}) is None
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


def cut(folder: Path) -> None:
    file = folder / "some.safetensors"
    file.write_bytes(file.read_bytes()[:100])


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "nothing there": (lambda folder: (folder / "some.safetensors").unlink(), "holds no .safetensors"),
    "cut": (cut, "some.safetensors cannot be read"),
    "a run folder": (lambda folder: (folder / "config.yaml").touch(), "give what it exported"),
    "a pipeline": (lambda folder: (folder / "model_index.json").touch(), "give it as the model"),
    "no number": (lambda f: save_file({"w.lora_A.weight": A / 0}, f / "some.safetensors"), "not finite"),
    "kohya": (lambda f: save_file({"lora_net_to_q.lora_down.weight": A}, f / "some.safetensors"), "do not fit"),
    "ranks of layers": (
        lambda f: (f / "adapter_config.json").write_text('{"rank_pattern": {"to_q": 1}}') and None,
        "ranks of single layers",
    ),
    "another network": (lambda f: save_file({"block.weight": A}, f / "some.safetensors"), "of another network"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind: str, tmp_path: Path) -> None:
    save_file({"net.block.to_q.lora_A.weight": A, "net.block.to_q.lora_B.weight": B}, tmp_path / "some.safetensors")
    damage, told = REFUSED[kind]
    damage(tmp_path)
    with pytest.raises(UserError, match=told) as caught:
        start_from(str(tmp_path), {"net": Net()})
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_what_is_trained(tmp_path: Path) -> None:
    file = tmp_path / "some.safetensors"
    save_file({"net.block.to_q.lora_A.weight": A, "net.block.to_q.lora_B.weight": B}, file)
    for changes, told in (({"rank": 3}, "set model.train.rank to 2"), ({"targets": ("to_k",)}, "model.train.targets")):
        net = Net()
        updates = start_from(str(file), {"net": net})
        assert updates is not None
        with pytest.raises(UserError, match=told):
            updates.into(trained(net, **changes), {"net": net})
    save_file({"net.block.to_q.lora_A.weight": A[:, :2].contiguous(), "net.block.to_q.lora_B.weight": B}, file)
    updates = start_from(str(file), {"net": Net()})
    assert updates is not None
    with pytest.raises(UserError, match="is no linear layer of that shape"):
        updates.merge({"net": Net()})
