"""A whole run in float16, by the command: its losses are scaled, and it goes on to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

import limner
from limner.algorithms.flow_grpo import FlowGRPO
from limner.cli import main
from limner.diffusion.dynamics import FlowSDE
from limner.policies.denoising import Sampler
from limner.recipes.yaml import to_yaml
from run.miniature import Miniature, differences, last_checkpoint

HALF = ["--precision.dtype", "float16", "--ratio_floor", "warn", "--quiet"]


def test_a_run_in_float16_learns_scaled_and_goes_on_to_the_bit(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    config = miniature.config(tmp_path / "run", steps=2, algorithm=FlowGRPO(), sampler=Sampler(FlowSDE(), steps=3))
    recipe.write_text(to_yaml(config))
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert main(["train", str(recipe), *HALF, "--out", str(whole)]) == 0, capsys.readouterr().err
    assert main(["train", str(recipe), *HALF, "--out", str(parted), "--steps", "1"]) == 0
    assert main(["train", str(recipe), *HALF, "--out", str(parted), "--resume"]) == 0
    assert "float16" not in capsys.readouterr().err, "what diffusers says of it is no matter of ours"
    one, two = last_checkpoint(whole), last_checkpoint(parted)
    assert not differences(one, two)
    assert one["stepper"]["scale"]["value"] > 1 and one["stepper"]["num_skipped"] == 0
    assert any(each.abs().max() > 0 for name, each in one["weights"]["policy"].items() if "lora_B" in name)
    run = limner.open_run(whole)
    assert run.config.precision.dtype == "float16"
