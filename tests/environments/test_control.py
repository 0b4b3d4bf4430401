"""The example on classical control learns, by the same objectives."""

from __future__ import annotations

import runpy

import pytest

from architecture.source import ROOT


@pytest.mark.parametrize(("name", "least"), [("PPO", 60), ("TRPO", 50)])
def test_it_learns_to_balance(name: str, least: float) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "control.py"))
    example["run"].__globals__["ITERATIONS"] = 9
    returns = example["run"](name, 0)
    assert returns[0] < 30 and max(returns[-3:]) > least
