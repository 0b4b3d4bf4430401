"""A session stops before its time is over, with a checkpoint, and says how to go on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from limner.core.errors import RunError
from limner.core.team import ALONE
from limner.report.metrics import read
from limner.run import train
from limner.training.deadline import Deadline
from run.miniature import Miniature, last_checkpoint


def test_the_longest_iteration_must_fit_in_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 seconds from 0 on. The loop begins at 20, iterations end at 30, 55 and 76: another of 25 would at 101."""
    now = iter([30.0, 55.0, 76.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    deadline = Deadline(100.0, 0.0, ALONE, last=20.0)
    assert [deadline.passed() for _ in range(3)] == [False, False, True]
    assert not Deadline(0.0, 0.0, ALONE, last=0.0).passed()


def test_a_run_stops_with_a_checkpoint_and_goes_on(miniature: Miniature, tmp_path: Path) -> None:
    config = miniature.config(tmp_path / "run", steps=2, checkpoint_every=10, max_hours=1e-6)
    with pytest.raises(RunError, match="stopped after 1 of 2 iterations, .* max_hours 1e-06 says; .* --resume"):
        train(config, quiet=True)
    assert last_checkpoint(tmp_path / "run")["state"]["iteration"] == 1
    train(replace(config, max_hours=0.0), quiet=True, resume=True)
    assert [line["step"] for line in read(tmp_path / "run")] == [0, 1]
