"""What can be chosen about a model: it does what diffusers' own call does, and says what it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from limner.core.errors import UserError
from limner.core.protocols import Adapter, ModelSettings
from limner.core.types import Prompt
from limner.models.sd.adapter import SD
from limner.models.sd.settings import SDSettings
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings
from limner.registry.find import find
from limner.registry.names import MODELS

KINDS = ["sd3", "sd15", "sd21", "sdxl"]
NEGATIVE = "a blue square"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    SD3.tiny(folder / "sd3")
    for kind in ("sd15", "sd21", "sdxl"):
        SD.tiny(kind, folder / kind)
    return folder


def settings(kind: str, **changes: Any) -> ModelSettings:
    return SD3Settings(max_sequence_length=16, **changes) if kind == "sd3" else SDSettings(**changes)


def load(folders: Path, kind: str, **changes: Any) -> Adapter:
    return settings(kind, **changes).load(folders / kind, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("kind", MODELS)
def test_settings_and_adapter_are_one_family(kind: str) -> None:
    settings = find(MODELS, "model kind", kind)
    steps = settings().call({"num_inference_steps": 7})["num_inference_steps"]
    assert len(settings.serves) > 0 and steps == (1 if kind == "gan" else 7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_row_is_the_negative_prompt(folders: Path, kind: str) -> None:
    """As the plain pipeline encodes it; XL's zeros are for no negative prompt alone."""
    plain: Any = DiffusionPipeline.from_pretrained(folders / kind)
    if kind == "sd3":
        own = plain.encode_prompt("a star", None, None, negative_prompt=NEGATIVE, max_sequence_length=16)
    elif kind == "sdxl":
        own = plain.encode_prompt("a star", device="cpu", negative_prompt=NEGATIVE)
    else:
        own = plain.encode_prompt("a star", "cpu", 1, True, NEGATIVE)
    condition = load(folders, kind, negative_prompt=NEGATIVE).encode([Prompt("a star")])
    empty = load(folders, kind).encode([Prompt("a star")])
    torch.testing.assert_close(condition["context"][-1], own[1][0], atol=1e-5, rtol=1e-5)
    assert torch.equal(condition["context"][0], empty["context"][0])
    assert not torch.equal(condition["context"][-1], empty["context"][-1])
    if "pooled" in condition:
        torch.testing.assert_close(condition["pooled"][-1], own[3][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_height_and_width_are_those_of_the_plain_pipeline(folders: Path, kind: str) -> None:
    model = load(folders, kind, resolution=64, width=48)
    plain: Any = DiffusionPipeline.from_pretrained(folders / kind)
    plain.set_progress_bar_config(disable=True)
    call = settings(kind, resolution=64, width=48).call({})
    assert call == {"height": 64, "width": 48} | ({"max_sequence_length": 16} if kind == "sd3" else {})
    latents = torch.randn(1, *model.latent().shape, generator=torch.Generator().manual_seed(0))
    theirs = plain("a star", latents=latents.clone(), num_inference_steps=2, output_type="pt", **call).images
    assert model.decode(latents).frames().shape[-2:] == theirs.shape[-2:] == (64, 48)
    times, condition = model.times(2), model.encode([Prompt("a star")])
    index = torch.zeros(1, dtype=torch.long)
    told: list[Any] = []
    own = next(iter(model.networks.values()))
    own.register_forward_pre_hook(lambda _, args, given: told.append(given.get("added_cond_kwargs")), with_kwargs=True)
    assert model.predict(latents, times[:1], condition, index).shape == latents.shape
    if kind == "sdxl":
        expected = plain._get_add_time_ids((64, 48), (0, 0), (64, 48), torch.float32, 32)
        assert torch.equal(told[0]["time_ids"], expected)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("sd3", {"resolution": 24}, "model: resolution is 24 pixels; give a multiple of 16"),
    ("sd3", {"width": 24}, "model: width is 24 pixels; give a multiple of 16"),
    ("sd3", {"resolution": 256}, "model: resolution is 256 pixels; this network has places for 128 at most"),
    ("sd15", {"resolution": 32, "width": -16}, "SDSettings: width must be at least 1 and at most 65536, got -16"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), BAD)
def test_sizes_that_cannot_be(folders: Path, kind: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load(folders, kind, **changes)
    assert str(caught.value) == message
