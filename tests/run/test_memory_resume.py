"""What an algorithm remembers is in its checkpoints: an interrupted run ends where an uninterrupted one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import limner
from limner.algorithms.ddpo import DDPO
from limner.algorithms.ppo import PPO
from limner.algorithms.trpo import TRPO
from limner.diffusion.dynamics import FlowSDE
from limner.models.sd3.settings import SD3Settings
from limner.policies.denoising import Sampler
from limner.training import loop
from limner.training.config import Full, Model
from run.miniature import Miniature, differences, last_checkpoint


@pytest.mark.parametrize("algorithm", [DDPO(buffer_size=6, min_count=5), PPO(), TRPO()], ids=["ddpo", "ppo", "trpo"])
def test_interrupted_it_remembers(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: Any
) -> None:
    def run(name: str, resume: bool = False) -> dict[str, Any]:
        config = miniature.config(
            tmp_path / name,
            algorithm=algorithm,
            sampler=Sampler(FlowSDE(), steps=4),
            model=Model(path=str(miniature.model), settings=SD3Settings(max_sequence_length=0), train=Full()),
        )
        limner.train(config, resume=resume, quiet=True)
        return last_checkpoint(tmp_path / name)

    whole = run("whole")
    update, seen = loop.update, []

    def failing(*arguments: Any) -> dict[str, float]:
        seen.append(arguments)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(loop, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        run("parts")
    monkeypatch.undo()
    assert differences(whole, run("parts", resume=True)) == []
    assert bool(whole["state"]["memory"]) == (not isinstance(algorithm, TRPO))
