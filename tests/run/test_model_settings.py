"""Settings of a model from the command line to the picture, and the kind that its folder tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import limner
from limner.build import load_model
from limner.cli import main
from limner.core.errors import UserError
from limner.engine.precision import Precision
from limner.models.sd.adapter import SD
from limner.models.sd.settings import SDSettings
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings
from limner.recipes.override import override
from limner.recipes.yaml import from_yaml, to_yaml
from limner.training.config import Model, RunConfig
from run.miniature import Miniature

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    SD3.tiny(folder / "sd3")
    SD.tiny("sd15", folder / "sd15")
    (folder / "flux").mkdir()
    (folder / "flux" / "model_index.json").write_text('{"_class_name": "FluxFillPipeline"}')
    return folder


def test_a_resolution_reaches_the_picture(
    miniature: Miniature, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the tiny folder are 32 x 32."""
    recipe = miniature.config(tmp_path / "run", steps=1, model=Model(path=str(folders / "sd3")))
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    size = ["--model.settings.resolution", "64", "--model.settings.width", "48"]
    length = ["--model.settings.max_sequence_length", "16", "--model.settings.negative_prompt", "a sea"]
    assert main(["train", str(tmp_path / "recipe.yaml"), "--quiet", *size, *length]) == 0, capsys.readouterr().err
    run = limner.open_run(tmp_path / "run")
    assert run.config.model.settings == SD3Settings(64, 48, "a sea", 16) and run.config.model.kind == ""
    drawn = run.sample("a star", count=1).media
    assert isinstance(drawn, limner.Images) and drawn.pixels.shape == (1, 3, 64, 48)
    card = (tmp_path / "run" / "export" / "README.md").read_text()
    assert "height=64, width=48, negative_prompt='a sea', max_sequence_length=16" in card


def test_the_kind_is_read_from_the_folder(folders: Path) -> None:
    for name, kind in (("sd3", SD3), ("sd15", SD)):
        assert isinstance(load_model(Model(path=str(folders / name)), Precision("float32"), CPU), kind)
    with pytest.raises(UserError) as caught:
        load_model(Model(path=str(folders / "flux")), Precision("float32"), CPU)
    said = str(caught.value)
    assert "flux is a FluxFillPipeline, and limner serves StableDiffusion3Pipeline, StableDiffusionPipeline, " in said
    assert said.endswith("the nearest kind is flux (FluxPipeline); your own is a --model.kind FILE.py:NAME")
    with pytest.raises(UserError, match="model.settings are SDSettings.*, but model.kind sd3 has SD3Settings"):
        load_model(Model("sd3", str(folders / "sd3"), SDSettings()), Precision("float32"), CPU)


def test_settings_are_those_of_the_kind(folders: Path) -> None:
    sd3, sd = str(folders / "sd3"), str(folders / "sd15")
    config = override(RunConfig(name="x"), {"model.path": sd3, "model.settings.max-sequence-length": "16"})
    assert config.model == Model(path=sd3, settings=SD3Settings(max_sequence_length=16))
    assert override(config, {"model.settings.width": "64"}).model.settings == SD3Settings(None, 64, "", 16)
    assert override(config, {"model.path": str(folders / "flux"), "model.kind": "sd3"}).model.settings is not None
    assert override(config, {"model.path": sd}).model == Model(path=sd)
    assert override(config, {"model.kind": "sd"}).model.settings is None
    assert override(config, {"model.settings": "none"}).model == Model(path=sd3)
    assert override(config, {"model.settings": SD3Settings(64)}).model.settings == SD3Settings(64)
    assert override(config, {"model.path": sd, "model.settings.width": "32"}).model.settings == SDSettings(width=32)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model.kind": "sd", "model.settings.max_sequence_length": "0"},
            "unknown key --model.settings.max-sequence-length: --model.settings is SDSettings; the nearest known key",
        ),
        ({"model.kind": "sd3", "model.settings.resolutoin": "64"}, "unknown key --model.settings.resolutoin"),
        ({"model.kind": "sd3", "model.settings.resolution": "big"}, "--model.settings.resolution needs an integer"),
        ({"model.settings": "SD3"}, "--model.settings holds no value itself; set keys below it"),
        ({"model.kind": "sd4"}, "--model.kind cannot be 'sd4'; did you mean 'sd"),
        ({"model.max_sequence_length": "0"}, "--model.max-sequence-length is now --model.settings.max-sequence-length"),
        ({"model.path": "nowhere", "model.settings.width": "64"}, "model: nowhere is not a folder"),
    ],
)
def test_what_cannot_be_set_is_one_line(values: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        override(RunConfig(name="x"), values)
    assert str(caught.value).startswith(message)


def test_what_an_earlier_version_wrote_is_read() -> None:
    """It said None where a pipeline has no such setting."""
    tree = yaml.safe_load(to_yaml(limner.recipe("scenes")))
    del tree["model"]["settings"]
    tree["model"] |= {"kind": "sd3", "max_sequence_length": 0}
    found = from_yaml(yaml.safe_dump(tree))
    assert found == replace(limner.recipe("scenes"), model=replace(limner.recipe("scenes").model, kind="sd3"))
    tree["model"] |= {"kind": "sd", "path": "scenes_sd", "max_sequence_length": None}
    assert from_yaml(yaml.safe_dump(tree)).model.settings is None


def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (Path(__file__).parents[1] / "third_party" / "toy_clip.py").read_text()
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    values = {"model.kind": "mine.py:ToyClipSettings", "model.settings.scale": "0.5"}
    config = override(RunConfig(name="x"), values)
    model = load_model(config.model, Precision("float32"), CPU)
    assert type(model).__name__ == "ToyClips"
    told = yaml.safe_load(to_yaml(config))["model"]
    assert told["kind"] == f"{(tmp_path / 'mine.py').resolve()}:ToyClipSettings" and told["settings"] == {"scale": 0.5}
    assert from_yaml(to_yaml(config)).model.settings == config.model.settings
    plain = override(RunConfig(name="x"), {"model.kind": "mine.py:ToyClipSettings"})
    assert yaml.safe_load(to_yaml(plain))["model"]["kind"] == told["kind"]
