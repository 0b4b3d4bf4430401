"""A run that is interrupted at any moment and resumed ends, bit by bit, where an uninterrupted one does."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shlex
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.cli import main
from limner.diffusion.dynamics import FlowSDE
from limner.engine import checkpoint
from limner.policies.denoising import Sampler
from limner.recipes.yaml import to_yaml
from limner.report.metrics import read
from limner.training.config import Evaluation, Full, Model, Optimizer, RunConfig
from run.miniature import Miniature, differences, last_checkpoint
from run.process import Death, run, start

STEPS = 4
OPTIMIZER = Optimizer(lr=1e-2, schedule="cosine", warmup=2, weight_decay=0.1, ema=0.8)
CHANGES: dict[str, dict[str, Any]] = {
    "lora": {"algorithm": DiffusionNFT(num_times=2, decay_rate=0.2)},
    "full": {
        "algorithm": FlowGRPO(kl_weight=0.01),
        "sampler": Sampler(FlowSDE(), steps=4, window=1, window_range=(0, 2)),
        "rewards": "sometimes",
    },
}


class Trial:
    """A recipe, its uninterrupted run, and how another run of it differs."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        folder.mkdir()
        self.recipe, self.whole = folder / "recipe.yaml", folder / "whole"
        self.recipe.write_text(to_yaml(config))
        code, lines = run(self.command(self.whole), folder / "stderr")
        assert code == 0, lines

    def command(self, out: Path, *more: str) -> list[str]:
        return ["train", str(self.recipe), "--out", str(out), "--quiet", *more]

    def require_equal(self, out: Path) -> None:
        assert differences(last_checkpoint(self.whole), last_checkpoint(out)) == []
        assert last_checkpoint(out)["state"]["iteration"] == STEPS
        assert measured(out) == measured(self.whole)
        assert [line["step"] for line in read(out)] == list(range(STEPS))
        summaries = [json.loads((folder / "summary.json").read_text()) for folder in (out, self.whole)]
        assert summaries[0]["heldout"] == summaries[1]["heldout"]
        spent = summaries[0]["seconds"]
        assert spent["total"] >= spent["rollout"] + spent["reward"] + spent["update"]
        (weights,) = (self.whole / "export").glob("*.safetensors")
        assert differences(load_file(weights), load_file(out / "export" / weights.name)) == []


def measured(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if not k.startswith("seconds/")} for line in read(folder)]


@pytest.fixture(scope="module")
def trials(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trial]:
    folder = tmp_path_factory.mktemp("trials")
    made = {}
    for name, changes in CHANGES.items():
        evaluation = Evaluation(str(miniature.prompts), seeds=2, every=2)
        more = {k: v for k, v in changes.items() if k != "rewards"}
        config = miniature.config(Path(), changes.get("rewards", "redness"), steps=STEPS, optimizer=OPTIMIZER, **more)
        model: Model = replace(config.model, train=Full()) if name == "full" else config.model
        every = 2 if name == "full" else 1
        config = replace(config, model=model, evaluation=evaluation, checkpoint_every=every, out="")
        made[name] = Trial(config, folder / name)
    return made


def test_killed_in_every_kind_of_write(trials: dict[str, Trial], tmp_path: Path) -> None:
    """One run, killed nine times: at its very start, in, before and after writing checkpoints, and at its end."""
    trial, out = trials["lora"], tmp_path / "run"
    deaths = [
        Death("before", "config.yaml"),
        Death("after", "rewards.json"),
        Death("inside", "00000001.tmp"),
        Death("before", "00000002-"),
        Death("before", "metrics.jsonl"),
        Death("after", "00000002-"),
        Death("inside", "00000004.tmp"),
        Death("before", "summary.json"),
        Death("before", "README.md"),
    ]
    for death in deaths:
        code, lines = run(trial.command(out, "--resume"), tmp_path / "stderr", death)
        assert code == -signal.SIGKILL, (death, lines)
    code, lines = run(trial.command(out, "--resume"), tmp_path / "stderr")
    assert code == 0 and f"resuming at iteration {STEPS}" in lines
    trial.require_equal(out)


def test_killed_at_random_moments(trials: dict[str, Trial], tmp_path: Path) -> None:
    trial, out = trials["full"], tmp_path / "run"
    moments = []
    for lines in (1, 2, 3):
        command = start(trial.command(out, "--resume"), tmp_path / "stderr")
        command.wait_for(out / "metrics.jsonl", lines)
        moments.append(random.random() * 0.03)
        time.sleep(moments[-1])
        command.send(signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL, (moments, command.lines())
    code, errors = run(trial.command(out, "--resume"), tmp_path / "stderr")
    assert code == 0, (moments, errors)
    trial.require_equal(out)


def test_interrupted_by_hand(trials: dict[str, Trial], tmp_path: Path) -> None:
    """Ctrl-C ends with a line that says how to go on, and that line is right."""
    trial, out = trials["lora"], tmp_path / "run"
    command = start(trial.command(out), tmp_path / "stderr")
    command.wait_for(out / "metrics.jsonl", 2)
    command.send(signal.SIGINT)
    assert command.wait() == 130
    line = command.lines()[-1]
    beginning = "limner: interrupted; continue with: limner "
    assert line == beginning + shlex.join(trial.command(out, "--resume"))
    assert not list((out / "checkpoints").glob("*.tmp"))
    code, lines = run(shlex.split(line.removeprefix(beginning)), tmp_path / "stderr")
    assert code == 0 and re.fullmatch("resuming at iteration [123]", lines[0])
    trial.require_equal(out)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_stopped_in_a_checkpoint_write(
    error: BaseException,
    trials: dict[str, Trial],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A full disk, and Ctrl-C, in the write of the third checkpoint."""
    trial, out = trials["lora"], tmp_path / "run"
    write = checkpoint._Hashed.write

    def failing(self: checkpoint._Hashed, data: bytes) -> int:
        if Path(self.file.name).name == "00000003.tmp":
            self.error = error if isinstance(error, OSError) else None
            raise error
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint._Hashed, "write", failing)
        code = main(trial.command(out))
    line = capsys.readouterr().err.splitlines()[-1]
    if isinstance(error, OSError):
        assert code == 1 and line.startswith("limner: checkpoint of step 3 not written") and "No space left" in line
    else:
        assert code == 130 and line.startswith("limner: interrupted; continue with: limner train")
    assert sorted(path.name[:8] for path in (out / "checkpoints").iterdir()) == ["00000001", "00000002"]
    assert main(trial.command(out, "--resume")) == 0
    trial.require_equal(out)


@pytest.mark.parametrize("name", ["metrics.jsonl", "rewards.json", "report.html"])
def test_a_full_disk_is_one_line_wherever_it_strikes(
    name: str,
    trials: dict[str, Trial],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = os.replace

    def failing(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        original(source, target)

    monkeypatch.setattr(os, "replace", failing)
    assert main(trials["lora"].command(tmp_path / "run")) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("limner: ") and "No space left" in line and "--resume" in line


def test_a_full_disk_during_the_export_is_one_line_too(
    trials: dict[str, Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*args: Any, **kwargs: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", failing)
    assert main(trials["lora"].command(tmp_path / "run")) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("limner: ") and "No space left" in line and "--resume" in line
