"""The bench end to end, in miniature; its table and its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from limner.bench import grid, oracle_report
from limner.bench.oracle_report import bench, nearby, read, table
from limner.bench.oracles import ENTRIES, Point, curve, efficiency
from limner.cli import main


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_gains_on_the_gaussian_tilt_and_never_more_than_can_be_gained(name):
    points = curve(replace(ENTRIES[name], steps=(12, 12)), "o1", points=3)
    assert [point.iteration for point in points] == [0, 4, 8, 12]
    assert points[0].reward == pytest.approx(0, abs=1e-9) and points[0].kl == pytest.approx(0, abs=1e-9)
    assert points[-1].reward > 0.05 and points[-1].evaluations > 0
    assert all(0.3 < efficiency(point) <= 1 + 1e-6 for point in points[1:])


def test_the_noise_prediction_learns_too():
    entry = replace(ENTRIES["Flow-GRPO"], steps=(12, 12))
    assert curve(entry, "o2", "noise", points=1)[-1].reward > 0.02


def test_modes_and_the_own_objective_are_followed_on_the_mixture(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid, "POINTS", 101)
    points = curve(replace(ENTRIES["Flow-GRPO, KL 0.3"], steps=(2, 2)), "o3", points=1)
    assert sum(points[0].modes) == pytest.approx(1) and points[0].modes[0] == pytest.approx(0.4, abs=0.05)
    assert points[0].kl == pytest.approx(0, abs=1e-6)
    assert points[0].objective == pytest.approx(0, abs=1e-6) and 1e-3 < points[1].objective < 0.5


def point(**values):
    return Point(**{"iteration": 1, "evaluations": 10, "reward": 0.5, "kl": 1.0, "frontier": 1.0, "modes": ()} | values)


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    pytest.importorskip("matplotlib")
    seen = []

    def fake(entry, world, seed):
        seen.append((world, seed))
        modes = (0.25,) * 4 if world == "o3" else ()
        return [point(iteration=0, kl=0.0, frontier=0.0, reward=0.0, modes=modes), point(kl=1.0 + seed, modes=modes)]

    monkeypatch.setattr(oracle_report, "curve", fake)
    assert main(["bench", "oracles", "--seeds", "2", "--entry", "AWM", "--out", str(tmp_path)]) == 0
    assert len(seen) == 6 and "| AWM | o1 | 2 | 10 | 0.5 | 1.5 (1 to 2) | 0.5 | 0.5 at 1.5 |" in capsys.readouterr().out
    bench(tmp_path, 3, ["AWM"])
    assert seen[6:] == [("o1", 2), ("o2", 2), ("o3", 2)]
    assert len(read(tmp_path / "oracles.json")) == 9 and (tmp_path / "oracles.png").stat().st_size > 1000
    assert main(["bench", "oracles", "--entry", "AWN"]) == 2 and "AWM" in capsys.readouterr().err
    assert main(["bench", "oracle"]) == 2


def test_near_one_nat():
    curve = [point(kl=0.0), point(kl=0.4), point(kl=1.2), point(kl=3.0)]
    assert nearby(curve).kl == 1.2 and nearby(curve[:2]).kl == 0.4
    assert "own optimum" in table({}) and "0.93" in table({("RAFT", "o1", 0): [point(objective=0.93)]})
