"""A run over a base in 4 bits, by the command: it learns, and goes on to the bit from a base that is coded again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import limner
from limner.cli import main
from limner.models.quantized import Coded
from limner.recipes.yaml import to_yaml
from run.miniature import FLOW_GRPO, Miniature, differences, last_checkpoint


def test_a_quantised_run_goes_on_to_the_bit(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = miniature.config(tmp_path / "run", steps=2, **FLOW_GRPO)
    (tmp_path / "recipe.yaml").write_text(to_yaml(config))
    coded = ["train", str(tmp_path / "recipe.yaml"), "--model.quantize", "nf4", "--quiet"]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert main([*coded, "--out", str(whole)]) == 0, capsys.readouterr().err
    assert main([*coded, "--out", str(parted), "--steps", "1"]) == 0
    assert main([*coded, "--out", str(parted), "--model.quantize", "int8", "--resume"]) == 2
    assert "model.quantize" in capsys.readouterr().err
    assert main([*coded, "--out", str(parted), "--resume"]) == 0
    one, two = last_checkpoint(whole), last_checkpoint(parted)
    assert one["state"]["iteration"] == 2 and not differences(one, two)
    learned = one["weights"]["policy"]
    assert all(".lora_" in name for name in learned), "the codes are the base's, and are made again"
    assert any(each.abs().max() > 0 for name, each in learned.items() if "lora_B" in name)
    network = limner.open_run(parted).assembly.parts.weights.roles["policy"].networks["transformer"]
    layers = [each for each in network.modules() if isinstance(each, Coded)]
    assert layers and all(each.codes.dtype == torch.uint8 for each in layers)
