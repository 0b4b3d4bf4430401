from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from limner.core.errors import UserError
from limner.report.manifest import hash_weights, manifest, read_manifest, write_manifest


def test_weights_are_hashed_by_their_path_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert hash_weights(tmp_path) == {"transformer/model.safetensors": digest}
    assert hash_weights(tmp_path / "transformer" / "model.safetensors") == {"model.safetensors": digest}


def test_manifest_says_what_is_needed_and_no_path_of_the_machine(tmp_path: Path) -> None:
    content = manifest(
        config="name: scenes\n",
        seeds={"run": 0},
        weights={"a.safetensors": "00"},
        inputs={"prompts a.txt": "11"},
        device="cpu",
        command=[str(tmp_path / "bin" / "limner"), "train", "scenes", "--out", "here"],
    )
    assert content["command"] == ["limner", "train", "scenes", "--out", "here"]
    assert {"python", "torch", "numpy"} <= set(content["versions"])
    assert content["sha256"]["config"] == hashlib.sha256(b"name: scenes\n").hexdigest()
    assert content["hardware"]["cores"]["machine"] >= 1 and content["hardware"]["device"]["kind"] == "cpu"
    write_manifest(tmp_path, content)
    text = (tmp_path / "manifest.json").read_text()
    assert json.loads(text) == content
    assert str(tmp_path) not in text and str(Path.cwd()) not in text and str(Path.home()) not in text


@pytest.mark.parametrize(
    "content", ["[]", '{"sha256": 3}', '{"sha256": {"inputs": []}}', '{"changes": 3}', '{"sha256": null}']
)
def test_a_manifest_of_another_form_is_refused_in_a_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="manifest.json .*delete it, and go on without it"):
        read_manifest(tmp_path)


def test_a_manifest_may_lack_what_it_is_not_asked_for(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    (tmp_path / "manifest.json").write_text('{"sha256": {"weights": {}}}')
    assert read_manifest(tmp_path) == {"sha256": {"weights": {}}}
