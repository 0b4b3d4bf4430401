"""Pretraining of a GAN: interrupted, and right in its pieces."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import yaml

from limner import build
from limner.core.errors import UserError
from limner.models.gan.adapter import GAN
from limner.training import pretrain_gan as module

FEW = {"num_pairs": 12, "steps": 3, "batch": 4, "width": 16, "penalty_every": 2, "reading_steps": 1}


def run(folder: Path) -> None:
    build.pretrain("scenes", folder, {"model": "gan", **FEW, "checkpoint_seconds": 0.0})


def test_interrupted_it_goes_on_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between the steps of discriminator and generator."""
    run(tmp_path / "whole")
    update, seen = module.Fit.update, itertools.count()

    def failing(fit: module.Fit, loss: torch.Tensor) -> None:
        if next(seen) == 3:
            raise KeyboardInterrupt
        update(fit, loss)

    with monkeypatch.context() as patch:
        patch.setattr(module.Fit, "update", failing)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts")
    run(tmp_path / "parts")
    whole, parts = (torch.load(tmp_path / name / "gan.pt", weights_only=True) for name in ("whole", "parts"))
    for one, two in zip((whole, *whole["beside"]), (parts, *parts["beside"]), strict=True):
        assert one["step"] == two["step"] == 3
        assert all(torch.equal(a, b) for a, b in zip(one["average"], two["average"], strict=True))
    base = tmp_path / "parts" / "pipeline"
    assert yaml.safe_load((base / "config.yaml").read_text())["steps"] == 3 and (base / "log.jsonl").exists()
    model = GAN.load(base)
    assert model.latent().shape == (8, 8, 8) and model.noise().shape == (64,)
    assert model.decode(torch.zeros(1, 8, 8, 8)).pixels.shape == (1, 3, 64, 64)
    with pytest.raises(UserError, match="begun with width 16, not 32"):
        build.pretrain("scenes", tmp_path / "parts", {"model": "gan", **FEW, "width": 32})
