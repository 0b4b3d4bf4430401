"""Workers of a Ray cluster that draw for a run: one that is killed loses nothing of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from limner import loops
from limner.build import assemble
from limner.cluster.place import Place
from limner.cluster.pool import Pool
from limner.core.errors import UserError
from limner.report.metrics import Metrics, read
from limner.report.progress import Progress
from limner.training.config import Rollouts
from limner.training.loop import Hooks
from limner.training.state import State
from run.miniature import FLOW_GRPO, Miniature, make_miniature
from training.test_asynchronous import run, vector, workers


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return make_miniature(tmp_path_factory.mktemp("miniature"))


def test_a_worker_that_is_killed_loses_nothing(
    cluster: None, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after the first iteration, at work or not; weights and log are those of a worker in this process."""
    config = miniature.config(tmp_path, steps=4, rollouts=Rollouts(Place(workers=1), 1), **FLOW_GRPO)
    here, _ = run(config, tmp_path / "here", workers(config, 1))
    processes: list[int] = []

    def started(*given: Any) -> Pool:
        pool = Pool(*given)
        processes.append(pool.answer(pool.ask(lambda held: os.getpid())))
        return pool

    def kill(state: State) -> None:
        if state.iteration == 1:
            os.kill(processes[0], signal.SIGKILL)

    monkeypatch.setattr(loops, "Pool", started)
    there, metrics = assemble(config), Metrics(tmp_path / "there")
    hooks = Hooks(Progress("test", 4, quiet=True), metrics, kill, lambda state: {})
    loops.carry_out(there, State(), hooks)
    metrics.close()
    assert processes and not psutil.pid_exists(processes[0])
    torch.testing.assert_close(vector(there), vector(here), rtol=0, atol=1e-6)
    lines = [read(tmp_path / name) for name in ("here", "there")]
    for mine, theirs in zip(*lines, strict=True):
        for key in ("staleness", "reward/mean", "network_evaluations", "ratio_deviation"):
            assert theirs[key] == pytest.approx(mine[key], rel=1e-3, abs=1e-6), key


def test_a_place_that_the_cluster_has_not_is_refused(cluster: None, miniature: Miniature, tmp_path: Path) -> None:
    config = miniature.config(tmp_path, rollouts=Rollouts(Place(workers=1, resource="printers")))
    with pytest.raises(UserError, match="rollouts: a worker takes 1 printers of the Ray cluster, which has 0"):
        assemble(config)
