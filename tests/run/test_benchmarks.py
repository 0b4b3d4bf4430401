"""Scripts in benchmarks/ that time whole runs: what they make of times, and what they refuse."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from limner.core.errors import UserError
from limner.recipes.yaml import to_yaml
from limner.registry.published import published
from run.miniature import Miniature

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look for themselves there
    spec.loader.exec_module(module)
    return module


def test_processes_are_compared_run_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Medians of neighbours' ratios: a machine that becomes slower from run to run says the same."""
    team = script("team")
    times = iter([[8.0, 9.0, 8.0], [6.0], [5.0], [16.0], [12.0], [10.0], [40.0], [24.0], [10.0]])
    monkeypatch.setattr(team, "seconds", lambda *asked: next(times))
    found = team.measure("scenes", 4, 3, [])
    assert found["seconds"] == {"one": 16.0, "threads": 12.0, "processes": 10.0}
    assert found["to_threads"] == 1.2 and found["to_one"] == 1.6 and found["efficiency"] == 0.8


def test_a_run_is_timed_iteration_by_iteration(miniature: Miniature, tmp_path: Path) -> None:
    team, recipe = script("team"), tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(miniature.config(tmp_path / "unused")))
    found = team.seconds(str(recipe), 3, "threads", tmp_path / "run", ["--group_size", "2"])
    assert len(found) == 2 and all(0 < each < 600 for each in found)
    with pytest.raises(UserError, match="by processes: limner: .*share whole groups"):
        team.seconds(str(recipe), 3, "processes", tmp_path / "other", ["--prompts_per_step", "1"])


def test_a_full_size_is_refused_without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    throughput = script("throughput")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmarks/throughput.py", "--shape", "sd35_medium"])
    with pytest.raises(SystemExit, match="^throughput: a model as large as stabilityai/.* here is none: take .*sd3$"):
        throughput.main()


def test_a_full_size_is_that_of_the_facts() -> None:
    throughput = script("throughput")
    (hub,) = throughput.FULL.values()
    (facts,) = (each for _, each in published().values() if each.hub == hub)
    made: Any = throughput.full(hub, torch.device("meta"))
    parts = (made.transformer, made.vae, made.text_encoder, made.text_encoder_2, made.text_encoder_3)
    wanted = (facts.network, facts.autoencoder, *facts.encoders)
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [part.parameters for part in wanted]
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.bfloat16}


def test_what_is_found_is_written_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    throughput, place = script("throughput"), tmp_path / "found.json"
    monkeypatch.setattr(throughput, "measured", lambda *asked: {"samples": 8})
    monkeypatch.setattr(sys, "argv", ["benchmarks/throughput.py", "--shape", "flux", "--out", str(place)])
    throughput.main()
    assert place.read_text() == capsys.readouterr().out and '"samples": 8' in place.read_text()
