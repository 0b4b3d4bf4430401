from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from limner.core.errors import RunError
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
    with pytest.raises(RunError, match="line 2 is not JSON"):
        read(tmp_path)


def test_wandb_that_was_asked_for_and_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "limner")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    metrics = Metrics(tmp_path)
    with pytest.warns(UserWarning, match="pip install wandb"):
        metrics.log(0, {})
    metrics.close()
