"""Pretraining: interrupted, shared between processes, and right in its pieces."""

from __future__ import annotations

import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml

from limner import build
from limner.models.sd3.build import SD3Size
from limner.models.sd3.build import build as build_pipeline
from limner.training import pretrain as module
from limner.training.pretrain import Pretraining, Team, pretrain
from limner.worlds.scenes.reward import Scenes

FEW = {"autoencoder_steps": 3, "autoencoder_batch": 4, "num_pairs": 12, "steps": 4, "batch": 4, "early_steps": 2}


def small() -> SD3Size:
    return SD3Size(Scenes.words, layers=2, heads=1, autoencoder_channels=(8, 8, 8, 8))


def networks(folder: Path) -> list[torch.Tensor]:
    return torch.load(folder / "network.pt", weights_only=True)["average"]


def run(folder: Path) -> None:
    with torch.random.fork_rng():
        pretrain(build_pipeline(small()), Scenes(), Pretraining(**FEW, checkpoint_seconds=0.0), folder)


@pytest.mark.parametrize("stop", [1, 5])
def test_interrupted_it_goes_on_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """Stopped in the autoencoder's second step, or in the network's third, and started again."""
    run(tmp_path / "whole")
    update, seen = module._Fit.update, []

    def failing(fit: object, loss: torch.Tensor) -> None:
        if len(seen) == stop:
            raise KeyboardInterrupt
        seen.append(loss)
        update(fit, loss)

    monkeypatch.setattr(module._Fit, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts")
    monkeypatch.undo()
    run(tmp_path / "parts")
    pairs = zip(networks(tmp_path / "whole"), networks(tmp_path / "parts"), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    base = tmp_path / "parts" / "pipeline"
    assert yaml.safe_load((base / "config.yaml").read_text())["steps"] == 4 and (base / "log.jsonl").exists()


def test_two_processes_make_the_same_model(tmp_path: Path) -> None:
    for workers in (1, 2):
        build.pretrain("scenes", tmp_path / str(workers), {**FEW, "lr": 1.5e-3, "warmup": 200, "workers": workers})
    one, two = networks(tmp_path / "1"), networks(tmp_path / "2")
    start = list(build_pipeline(SD3Size(Scenes.words)).transformer.parameters())
    assert max(float((a - b).abs().max()) for a, b in zip(one, start, strict=False)) > 1e-5
    # Adam's first steps have the size of the learning rate (7.5e-6 times the step) whatever the gradient's.
    assert max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True)) < 4e-5


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Killed, it cannot tell them; left alive, they would write the checkpoint of whoever goes on."""
    values = {**FEW, "autoencoder_steps": 10**6, "workers": 2}
    parent = get_context("spawn").Process(target=build.pretrain, args=("scenes", tmp_path, values))
    parent.start()
    while not (tmp_path / "log.jsonl").exists():
        assert parent.is_alive()
        time.sleep(0.1)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert len(children) >= 2 and not alive


class Telltale(Scenes):
    """A world whose captions say how noisy they are."""

    def pair(self, rng: np.random.Generator, noisy_share: float) -> tuple[np.ndarray, str]:
        return super().pair(rng, 0.0)[0], "a red star" if noisy_share < 0.3 else "a blue square"


def test_cleaner_captions_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, seen = build_pipeline(small()), []
    encode = pipeline.encode_prompt

    def watched(texts: list[str], *args: object, **kwargs: object) -> object:
        seen.append({*texts} - {""})
        return encode(texts, *args, **kwargs)

    monkeypatch.setattr(pipeline, "encode_prompt", watched)
    pretrain(pipeline, Telltale(), Pretraining(**FEW), tmp_path)
    assert seen == [{"a red star"}] * 2 + [{"a blue square"}] * 2


def test_the_mean_of_one_is_itself() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    Team().average([parameter])
    assert parameter.grad.tolist() == [1.0, 2.0]
