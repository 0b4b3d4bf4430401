"""What the SD3 adapter writes and plain diffusers loads, and what it refuses to load."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings
from sd3_case import TEXTS, Case, tiny_copy, velocity

# --- export


def fresh(case: Case) -> StableDiffusion3Pipeline:
    """Return a plain pipeline with a transformer of its own, as the folder holds it."""
    return StableDiffusion3Pipeline(**{**case.plain.components, "transformer": tiny_copy(case)})


def trained(case: Case, targets: tuple[str, ...], inject: bool) -> SD3:
    """Return an adapter whose transformer carries a LoRA of rank 4 and alpha 12 that does something."""
    transformer = tiny_copy(case)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=list(targets), init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if inject:
            peft.inject_adapter_in_model(config, transformer, "default")
        else:
            transformer.add_adapter(config, "default")
    return case.adapter.with_networks({"transformer": transformer})


@pytest.mark.parametrize("targets", [SD3.lora_targets, SD3.wide_lora_targets], ids=["published", "wide"])
@pytest.mark.parametrize("inject", [False, True], ids=["diffusers", "peft"])
def test_exported_lora_is_the_same_in_plain_diffusers(
    tiny: Case, tmp_path: Path, targets: tuple[str, ...], inject: bool, no_network: None
) -> None:
    adapter = trained(tiny, targets, inject)
    adapter.export_lora(tmp_path)
    plain = fresh(tiny)
    base = velocity(SD3.wrap(plain, SD3Settings(max_sequence_length=16)))
    plain.load_lora_weights(tmp_path)
    ours, theirs = velocity(adapter), velocity(SD3.wrap(plain, SD3Settings(max_sequence_length=16)))
    assert (ours - base).abs().max() > 1e-2
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("metadata", [True, False], ids=["with metadata", "tensors alone"])
def test_the_exported_lora_is_at_scale_one(tiny: Case, tmp_path: Path, metadata: bool) -> None:
    """Alpha is three times the rank: a reader of the tensors alone, which takes alpha for the rank, gets it all."""
    adapter = trained(tiny, SD3.lora_targets, inject=False)
    adapter.export_lora(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    with safe_open(file, "pt") as opened:
        said = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert (said["transformer.r"], said["transformer.lora_alpha"]) == (4, 4)
    if not metadata:
        save_file(load_file(file), file)
    plain = fresh(tiny)
    plain.load_lora_weights(tmp_path)
    theirs = velocity(SD3.wrap(plain, SD3Settings(max_sequence_length=16)))
    torch.testing.assert_close(theirs, velocity(adapter), atol=1e-5, rtol=1e-5)


def test_one_of_two_adapters_is_exported(tiny: Case, tmp_path: Path) -> None:
    adapter = trained(tiny, SD3.lora_targets, inject=False)
    network: Any = adapter.networks["transformer"]
    network.add_adapter(LoraConfig(r=2, target_modules=["attn.to_q"], init_lora_weights=False), "old")
    network.set_adapter("default")
    expected = velocity(adapter)
    adapter.export_lora(tmp_path / "lora")
    plain = fresh(tiny)
    plain.load_lora_weights(tmp_path / "lora")
    torch.testing.assert_close(
        velocity(SD3.wrap(plain, SD3Settings(max_sequence_length=16))), expected, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("lora", [False, True])
def test_exported_transformer_is_the_same_in_plain_diffusers(tiny: Case, tmp_path: Path, lora: bool) -> None:
    adapter = trained(tiny, SD3.lora_targets, inject=False) if lora else tiny.adapter
    before = velocity(adapter)
    adapter.export_full(tmp_path)
    loaded = tiny.adapter.with_networks({"transformer": SD3Transformer2DModel.from_pretrained(tmp_path)})
    torch.testing.assert_close(velocity(loaded), before, atol=1e-5, rtol=1e-5)
    assert torch.equal(velocity(adapter), before)


# --- folders that are not pipelines


def refused(source: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        SD3.load(source)
    message = str(caught.value)
    assert "\n" not in message and str(source) in message
    return message


@pytest.mark.parametrize("source", ["/no/such/folder", "./nothing", "nothing", "../a/b", "a/b/c", "~/nothing/x"])
def test_a_path_that_does_not_exist_is_refused_without_the_network(source: str, no_network: None) -> None:
    message = refused(Path(source).expanduser() if source.startswith("~") else source.removeprefix("./"))
    assert "does not exist" in message and "a diffusers pipeline's save_pretrained wrote" in message


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path, no_network: None) -> None:
    assert "holds nothing" in refused(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert "no model_index.json, it holds model.safetensors" in refused(tmp_path)
    assert "it is a file" in refused(tmp_path / "model.safetensors")
    index = tmp_path / "model_index.json"
    index.write_text("{")
    assert "is not JSON" in refused(tmp_path)
    index.write_text("[]")
    assert "names no pipeline class" in refused(tmp_path)
    index.write_text('{"_class_name": "FluxPipeline"}')
    assert "is a FluxPipeline, and the sd3 adapter serves a StableDiffusion3Pipeline" in refused(tmp_path)


def test_a_folder_with_a_part_missing_is_refused(small: Case, tmp_path: Path, no_network: None) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(small.folder, folder)
    shutil.rmtree(folder / "vae")
    assert "has no vae: download that folder" in refused(folder)


SAID = {
    ("text_encoder", "num_hidden_layers", 1): "model.safetensors holds 2 of text_model.encoder.layers, and the "
    "configuration beside it says 1",
    ("text_encoder", "num_hidden_layers", 0): "and the configuration beside it says 0",
    ("text_encoder", "num_hidden_layers", 10**6): "has num_hidden_layers 1000000, and at most 10000 can be",
    ("text_encoder", "projection_dim", 7): "in another shape than its configuration says: text_projection.weight is",
    ("transformer", "num_layers", 0): "holds 2 of transformer_blocks, and the configuration beside it says 0",
    ("transformer", "in_channels", 5): "cannot be loaded (Cannot load because pos_embed.proj.weight expected shape",
    ("scheduler", "num_train_timesteps", 10**9): "has num_train_timesteps 1000000000, and at most 10000 can be",
}
"""What is said of a folder whose part has another value of a setting than its weights were made with."""


@pytest.mark.parametrize("changed", SAID, ids=lambda changed: f"{changed[1]}={changed[2]}")
def test_a_configuration_that_is_not_that_of_the_weights_is_one_line(
    small: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str], changed: tuple[str, str, Any]
) -> None:
    """Fewer layers than were stored are a network that computes something else, and libraries do load it."""
    part, key, value = changed
    folder = tmp_path / "changed"
    shutil.copytree(small.folder, folder)
    file = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    assert SAID[changed] in refused(folder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("place", ["model_index.json", "vae/config.json"])
def test_json_without_end_is_one_line(small: Case, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "nested"
    shutil.copytree(small.folder, folder)
    (folder / place).write_text("[" * 3000)
    assert "is not JSON" in refused(folder)


def test_a_folder_from_which_t5_was_removed_loads_without_it(tiny: Case, tmp_path: Path, no_network: None) -> None:
    folder = tmp_path / "without-t5"
    shutil.copytree(tiny.folder, folder)
    shutil.rmtree(folder / "text_encoder_3")
    shutil.rmtree(folder / "tokenizer_3")
    context = SD3.load(folder, SD3Settings(max_sequence_length=16)).encode([Prompt(TEXTS[0])])["context"]
    assert bool((context[:, 16:] == 0).all()) and bool((context[:, :16] != 0).any())


@pytest.mark.parametrize("trap", ["a component's file", "an importable module", "a pickle"])
def test_code_in_a_pipeline_folder_is_not_run(
    tiny: Case, tmp_path: Path, trap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's run names a stranger's folder: what would run in it is refused."""
    folder, mark = tmp_path / "folder", tmp_path / "executed"
    shutil.copytree(tiny.folder, folder)
    code = f"open({str(mark)!r}, 'w').close()\nclass Thing: ...\n"
    if trap == "a pickle":
        next((folder / "transformer").glob("*.safetensors")).unlink()
        torch.save({"x": Harmful(str(mark))}, folder / "transformer" / "diffusion_pytorch_model.bin")
    else:
        index = json.loads((folder / "model_index.json").read_text())
        index["scheduler"] = ["trap_of_the_test", "Thing"]
        (folder / "model_index.json").write_text(json.dumps(index))
        place = folder / "scheduler" if trap == "a component's file" else tmp_path
        (place / "trap_of_the_test.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
    assert "cannot be loaded" in refused(folder)
    assert not mark.exists()


class Harmful:
    """An object whose unpickling opens a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_a_hub_id_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, file: str, revision: str | None) -> None:
        raise OSError(f"cannot reach the hub for {name}\nmore text")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    assert "cannot be had from the hub (cannot reach the hub for someone/something)" in refused("someone/something")


def test_wrong_sequence_length_and_scheduler_are_refused(tiny: Case) -> None:
    with pytest.raises(UserError, match="max_sequence_length is 513"):
        SD3.load(tiny.folder, SD3Settings(max_sequence_length=513))
    with pytest.raises(UserError, match="max_sequence_length is 0, and the pipeline has a T5"):
        SD3.load(tiny.folder, SD3Settings(max_sequence_length=0))
    pipeline = SD3.tiny().pipeline
    pipeline.scheduler = nn.Identity()
    with pytest.raises(UserError, match="scheduler is a Identity; limner serves a FlowMatchEulerDiscreteScheduler"):
        SD3.wrap(pipeline)


# --- quiet


def test_loading_and_sampling_print_nothing(tiny: Case, capfd: pytest.CaptureFixture[str], recwarn: Any) -> None:
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    velocity(SD3.load(tiny.folder, SD3Settings(max_sequence_length=16)))
    assert capfd.readouterr() == ("", "")
    assert [str(w.message) for w in recwarn.list if "diffusers" in str(w.filename)] == []
    assert transformers_logging.is_progress_bar_enabled() == shown


def test_only_the_torchvision_notice_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers.utils.import_utils")
    logger.addHandler(caplog.handler)
    try:
        logger.warning("`X` requires torchvision (not installed)")
        logger.warning("something else")
    finally:
        logger.removeHandler(caplog.handler)
    assert "torchvision" not in caplog.text and "something else" in caplog.text
