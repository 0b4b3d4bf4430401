"""Kinds of LoRA that plain diffusers reads back as they are trained, and LoRAs that are part of the base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limner.core.errors import UserError
from limner.core.paths import weighed
from limner.engine.lora import lora
from limner.engine.precision import Precision
from limner.models.fused import fuse
from limner.models.sd3.adapter import SD3
from sd3_case import Case, velocity


def fresh(case: Case) -> SD3:
    return SD3.load(case.folder, case.adapter.settings)


def train(adapter: SD3, seed: int = 0, dora: bool = False, rslora: bool = False) -> None:
    """Put a LoRA on the adapter's transformer that does something."""
    networks, exact = adapter.networks, Precision()
    weights = lora(
        networks, rank=3, alpha=7, targets=(), pattern=".*attn.*to_[qv]", seed=seed, old=False, precision=exact,
        dora=dora, rslora=rslora,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in weights.parameters().values():
            each += 0.1 * torch.randn(each.shape, generator=generator)


@pytest.mark.parametrize(("dora", "rslora"), [(True, False), (False, True), (True, True)])
def test_plain_diffusers_reads_what_was_trained(dora: bool, rslora: bool, tiny: Case, tmp_path: Path) -> None:
    adapter = fresh(tiny)
    train(adapter, dora=dora, rslora=rslora)
    adapter.export_lora(tmp_path)
    plain = fresh(tiny)
    plain.pipeline.load_lora_weights(tmp_path)
    assert (velocity(adapter) - velocity(tiny.adapter)).abs().max() > 1e-2
    torch.testing.assert_close(velocity(plain), velocity(adapter), atol=2e-6, rtol=1e-5)


def test_a_base_with_a_lora_is_what_diffusers_makes_of_both(tiny: Case, tmp_path: Path) -> None:
    """One at 0.5 in the base, then another trained on top: the sum that diffusers forms of two adapters."""
    first = fresh(tiny)
    train(first, seed=1)
    first.export_lora(tmp_path / "style")
    model = fresh(tiny)
    fuse(model, [f"{tmp_path / 'style'}@0.5"])
    plain = fresh(tiny).pipeline
    plain.load_lora_weights(tmp_path / "style", adapter_name="style")
    plain.set_adapters(["style"], [0.5])
    wrapped = replace(tiny.adapter, pipeline=plain, networks={"transformer": plain.transformer})
    torch.testing.assert_close(velocity(model), velocity(wrapped), atol=2e-6, rtol=1e-5)
    assert all(each.requires_grad for each in model.networks["transformer"].parameters())
    assert not any("lora" in name for name, _ in model.networks["transformer"].named_parameters())

    train(model, seed=2)
    model.export_lora(tmp_path / "own")
    plain.load_lora_weights(tmp_path / "own", adapter_name="own")
    plain.set_adapters(["style", "own"], [0.5, 1.0])
    torch.testing.assert_close(velocity(model), velocity(wrapped), atol=2e-6, rtol=1e-5)


def test_what_is_no_lora_of_this_model_is_one_line(tiny: Case, tmp_path: Path) -> None:
    first = fresh(tiny)
    train(first)
    first.export_lora(tmp_path / "some")
    (file,) = (tmp_path / "some").glob("*.safetensors")
    tensors = load_file(file)
    foreign = {name.replace("blocks.0.attn2", "blocks.9.attn"): each for name, each in tensors.items()}
    assert foreign.keys() != tensors.keys()
    save_file(foreign, tmp_path / "foreign.safetensors")
    save_file({name: torch.full_like(each, torch.nan) for name, each in tensors.items()}, tmp_path / "nan.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    for wrong, says in {
        "absent": "is not there",
        "foreign.safetensors": "8 of its 12 weights have a place",
        "nan.safetensors": "not finite",
        "broken.safetensors": "is no LoRA that fits",
        ".": "holds 3 .safetensors",
        "some@nan": "a weight is a number",
    }.items():
        with pytest.raises(UserError, match=says) as caught:
            fuse(fresh(tiny), [str(tmp_path / wrong)])
        assert "\n" not in str(caught.value) and "model.loras" in str(caught.value)


def test_a_weight_stands_behind_the_path() -> None:
    assert weighed("a/b.safetensors@0.25") == (Path("a/b.safetensors"), 0.25)
    assert weighed("a@home/b.safetensors") == (Path("a@home/b.safetensors"), 1.0)
