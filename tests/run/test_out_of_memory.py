"""Memory that cannot be had ends a run with one line: which phase, what was asked for, what takes less, what stands."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.cli import main
from limner.core.errors import OutOfMemory
from limner.core.shortage import asked, is_short, needing
from limner.machine.relief import relief
from limner.policies.denoising import Denoising
from limner.recipes.yaml import to_yaml
from limner.rollout import score
from limner.run import Run
from limner.training.config import Precision
from run.miniature import FLOW_GRPO, Miniature

CARD = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.81 GiB of which 3.10 GiB is "
    "free. Including non-PyTorch memory, this process has 136.70 GiB memory in use."
)
MUCH = 10**16
"""Bytes that no machine has."""


def too_much(*_: Any, **__: Any) -> Any:
    """Ask the CPU for what it has not got."""
    return torch.empty(MUCH, dtype=torch.uint8)


def of_card(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError(CARD)


@pytest.mark.parametrize(
    ("raising", "said"),
    [
        (too_much, "9,313,225.75 GiB asked for"),  # 1e16 / 2**30
        (of_card, "20.00 GiB asked for, 3.10 GiB of 139.81 GiB free"),
        (lambda: np.empty(MUCH, dtype=np.uint8), "8.88 PiB"),
        (lambda: bytearray(MUCH), ""),
    ],
)
def test_what_was_asked_for_is_told(raising: Callable[[], Any], said: str) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        raising()
    assert is_short(caught.value) and said in asked(caught.value)


def test_other_errors_are_let_through() -> None:
    for error in (RuntimeError("shapes differ"), OSError(errno.ENOSPC, "no space"), ValueError("out of memory")):
        assert not is_short(error)
        with pytest.raises(type(error)), needing("update"):
            raise error
    assert is_short(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert is_short(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


def test_phases_stand_in_one_another() -> None:
    with pytest.raises(OutOfMemory) as caught, needing("the dry run"), needing("rollout"), needing("decode"):
        of_card()
    assert caught.value.phase == "decode of rollout of the dry run"
    with pytest.raises(OutOfMemory, match=r"out of memory in reward 'x' \(1 GiB\)$"), needing("reward"):
        raise OutOfMemory("reward 'x'", "1 GiB")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.phase, str(again)) == (caught.value.phase, str(caught.value))


def test_what_takes_less_is_told_cheapest_first(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The micro-batch of 8 is halved; on a card decisions may wait on the host; what is set is not told again."""
    config = miniature.config(tmp_path, **FLOW_GRPO)
    assert relief(config, "update of the dry run").startswith(
        "--micro_batch 4 (more, smaller passes), or --precision.activation_checkpointing true (a forward"
    )
    least = miniature.config(tmp_path, micro_batch=1, precision=Precision("bfloat16", True))
    assert "micro_batch" not in relief(least, "update") and "activation_checkpointing" not in relief(least, "update")
    assert relief(config, "update", free={"micro_batch"}) == "--micro_batch 4 (more, smaller passes)"
    monkeypatch.setattr("limner.machine.relief.resolve", torch.device)
    card = replace(config, device="cuda")
    assert "--sampler.keep host" in relief(card, "rollout") and "--sampler.keep host" not in relief(card, "encode")
    assert relief(card, "encode").startswith("--model.encoders cpu")


def fails(change: pytest.MonkeyPatch, owner: object, name: str, how: Callable[..., Any] = too_much) -> None:
    change.setattr(owner, name, how)


STAGES: dict[str, tuple[object, str]] = {
    "rollout": (Denoising, "sample"),
    "decode of rollout": (score, "shown"),
    "update": (DiffusionNFT, "pass_loss"),
}


@pytest.mark.parametrize("phase", STAGES)
@pytest.mark.parametrize("how", [too_much, of_card])
def test_a_run_says_where_memory_was_short(
    phase: str,
    how: Callable[..., Any],
    miniature: Miniature,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the dry run nothing stands yet; in the third iteration there is a checkpoint, and the line says so."""
    recipe, out, stage = tmp_path / "recipe.yaml", tmp_path / "run", STAGES[phase]
    recipe.write_text(to_yaml(miniature.config(out)))
    said = "asked for"
    with monkeypatch.context() as change:
        fails(change, *stage, how)
        assert main(["train", str(recipe), "--quiet"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"limner: out of memory in {phase} of the dry run (") and said in line
        assert "--micro_batch 4 (more, smaller passes)" in line and "--resume" not in line
        assert main(["check", str(recipe)]) == 1
        assert capsys.readouterr().err.splitlines() == [line]
    assert not out.exists()
    with monkeypatch.context() as change:
        checkpoint = Run.checkpoint

        def then(self: Run, state: Any) -> None:
            checkpoint(self, state)
            if state.iteration == 2:
                fails(change, *stage, how)

        change.setattr(Run, "checkpoint", then)
        assert main(["train", str(recipe), "--quiet"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"limner: out of memory in {phase} (") and said in line
    assert line.endswith("the last checkpoint stands: go on with --resume")
    assert "--micro_batch 4" in line and "--precision.dtype" not in line  # which a resumed run may not change
    assert main(["train", str(recipe), "--quiet", "--resume", "--micro_batch", "4"]) == 0
    assert (out / "summary.json").is_file()


def test_an_evaluation_says_so(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base is drawn from when the dry run is done: nothing is written of it, and there is no checkpoint."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(miniature.config(tmp_path / "run")))
    measure = Run.measure

    def then(self: Run, moment: Any) -> Any:
        fails(monkeypatch, Denoising, "sample")
        return measure(self, moment)

    monkeypatch.setattr(Run, "measure", then)
    assert main(["train", str(recipe), "--quiet", "--evaluation.prompts", str(miniature.prompts)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("limner: out of memory in evaluation (9,313,225.75 GiB asked for): lower it with --micro_b")
    assert "--resume" not in line


SHORT = f"""
import os
from pathlib import Path

import torch

PLACE = Path(__file__).with_name("once_there").read_text()


def short(media, prompts):
    \"\"\"One process of two finds no memory, at once, or when a checkpoint is there.\"\"\"
    if os.environ.get("RANK") == "1" and (not PLACE or any(Path(PLACE).glob("*.pt"))):
        torch.empty({MUCH}, dtype=torch.uint8)
    return media.frames().mean((1, 2, 3, 4)).tolist()
"""


@pytest.mark.parametrize("later", [False, True])
def test_one_process_of_two_says_it_for_both(
    later: bool, miniature: Miniature, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the dry run, and later; the other process only lost its peer, and is silent."""
    (tmp_path / "short.py").write_text(SHORT)
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(to_yaml(miniature.config(out)))
    (tmp_path / "once_there").write_text(str(out / "checkpoints") if later else "")
    command = ["train", str(recipe), "--reward", f"{tmp_path / 'short.py'}:short", "--quiet", "--nproc", "2"]
    assert main([*command, "--steps", "20"]) == 1
    line = capfd.readouterr().err.splitlines()[-1]
    place = "reward 'short'" if later else "reward 'short' of the dry run"
    assert line.startswith(f"limner: process 1 of 2: out of memory in {place} (9,313,225.75 GiB asked for): lower it ")
    assert "--micro_batch 4" in line and line.endswith("go on with --resume") == later
