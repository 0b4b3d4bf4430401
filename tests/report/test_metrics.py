from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from limner.core.errors import UserError
from limner.report.metrics import FILE, Metrics, read


def write(folder: Path, start: int, stop: int) -> None:
    metrics = Metrics(folder)
    metrics.truncate(start)
    for step in range(start, stop):
        metrics.log(step, {"reward/mean": step / 10})
    metrics.close()


def test_each_line_is_on_disk_when_log_returns(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.log(0, {"reward/mean": 0.5, "invalid": 3})
    assert (tmp_path / FILE).read_text() == '{"step": 0, "reward/mean": 0.5, "invalid": 3.0}\n'
    metrics.close()


def test_resume_leaves_neither_gap_nor_repeat(tmp_path: Path) -> None:
    write(tmp_path / "whole", 0, 10)
    write(tmp_path / "killed", 0, 7)
    with (tmp_path / "killed" / FILE).open("a") as stream:
        stream.write('{"step": 7, "rewa')
    write(tmp_path / "killed", 5, 10)
    assert (tmp_path / "killed" / FILE).read_text() == (tmp_path / "whole" / FILE).read_text()
    events = EventAccumulator(str(tmp_path / "killed" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("reward/mean")] == list(range(10))
    assert [path.name for path in (tmp_path / "killed").iterdir() if path.name.endswith(".part")] == []


def test_truncate_at_zero_starts_afresh(tmp_path: Path) -> None:
    write(tmp_path, 0, 4)
    write(tmp_path, 0, 2)
    assert [line["step"] for line in read(tmp_path)] == [0, 1]


def test_an_iteration_is_never_written_twice(tmp_path: Path) -> None:
    write(tmp_path, 0, 3)
    metrics = Metrics(tmp_path)
    metrics.truncate(2)
    with pytest.raises(ValueError, match="iteration 1 .* already written"):
        metrics.log(1, {})
    metrics.log(2, {})
    with pytest.raises(ValueError, match="iteration 2 .* already written"):
        metrics.log(2, {})
    metrics.close()


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.log(0, {"a": math.nan, "b": -math.inf, "c": 1.0})
    metrics.close()
    assert json.loads((tmp_path / FILE).read_text(), parse_constant=pytest.fail) == {
        "step": 0,
        "a": None,
        "b": None,
        "c": 1.0,
    }


def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    with pytest.raises(UserError, match="line 2 is no iteration after the one before"):
        read(tmp_path)


def test_wandb_that_was_asked_for_and_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "limner")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    metrics = Metrics(tmp_path)
    with pytest.warns(UserWarning, match="pip install wandb"):
        metrics.log(0, {})
    metrics.close()


def test_pictures_and_the_configuration_go_to_tensorboard(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, "steps: 3\n")
    metrics.truncate(0)
    metrics.show(1, "heldout", Image.new("RGB", (8, 6), (255, 0, 0)))
    metrics.log(1, {"a": 1.0})
    metrics.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (shown,) = events.Images("heldout")
    picture = Image.open(io.BytesIO(shown.encoded_image_string))
    assert shown.step == 1 and picture.size == (8, 6) and picture.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    (told,) = events.Tensors("config/text_summary")
    assert told.tensor_proto.string_val[0].decode() == "```yaml\nsteps: 3\n```"


def test_wandb_gets_numbers_pictures_and_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for it; a run that goes on has the same id."""
    told: list[Any] = []

    def init(**given: Any) -> Any:
        told.append(given)
        return SimpleNamespace(log=lambda values, step: told.append((step, values)), finish=lambda: told.append("end"))

    monkeypatch.setenv("WANDB_PROJECT", "limner")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Image=lambda sheet: ("picture", sheet.size)))
    for _ in range(2):
        metrics = Metrics(tmp_path, "steps: 3\nmodel: {path: scenes}\n")
        metrics.show(metrics.last + 1, "heldout", Image.new("RGB", (8, 6)))
        metrics.log(metrics.last + 1, {"a": 1.0})
        metrics.close()
    first, shown, logged, end, second, *_ = told
    assert first["config"] == {"steps": 3, "model": {"path": "scenes"}} and first["project"] == "limner"
    assert (shown, logged, end) == ((0, {"heldout": ("picture", (8, 6))}), (0, {"a": 1.0}), "end")
    assert second["id"] == first["id"] and second["resume"] == "allow"
