"""What a person reads is what it was: the help of every command, the recipes in full, and how bad input is answered.

`LIMNER_GOLDEN=write` writes the files anew: only when a change of the words is meant.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from limner.cli import main
from limner.recipes.named import recipe
from limner.recipes.presets import PRESETS, with_preset
from limner.recipes.yaml import to_yaml
from limner.registry.names import RECIPES

FILES = Path(__file__).parent / "files"
COMMANDS = (
    *("train", "check", "plan", "launch", "sample", "report", "export", "pretrain", "bench", "reward"),
    *("serve-reward", "list"),
)
BAD = """
train
train nothing
train scenes --stepz 3
train scenes --steps 0
train scenes --steps three
train scenes --algorithm FlowGPRO
train scenes --algorithm.beta -1
train scenes --algorithm nowhere.py:Mine
train scenes --algorithm FlowGRPO
train scenes --sampler.dynamics FlowSED
train scenes --sampler.window 20
train scenes --source Pictures --algorithm FlowGRPO --sampler.dynamics FlowSDE
train scenes --group_size 1
train scenes --optimizer.lr 2
train scenes --model.path nowhere
train scenes --model.kind nothing
train scenes --prompts nowhere.txt
train scenes --reward nothing
train scenes --reward jpeg_size*
train scenes --reward nowhere.py:mine
train scenes --evaluation.reward rank(scenes)
train scenes --anchor.weight 1
train scenes --device gpu
train scenes --preset nothing
train scenes --aggregation win_rate
sample nowhere red
report nowhere
export nowhere
bench nothing
reward show nothing
pretrain nothing
serve-reward nothing
plan nothing
plan scenes --card 13
plan scenes --processes 13
plan scenes_tokens
launch nothing scenes
launch slurm nothing
launch slurm scenes
launch slurm scenes --max-hours 0
launch slurm scenes --max-hours 12 --nodes 0
launch slurm scenes --max-hours 12 --nodes 4 --gpus-per-node 64
launch slurm scenes --max-hours 12 --image limner
launch slurm scenes --max-hours 12 --device cpu
launch slurm scenes --max-hours 12 --judge scenes
launch slurm scenes --max-hours 12 --reward remote(url="http://127.0.0.1:8000")
launch slurm scenes --max-hours 12 --judge-gpus 1
launch slurm scenes --max-hours 12 --algorithm TRPO --sampler.dynamics FlowSDE --gpus-per-node 2
launch kubernetes scenes
launch kubernetes scenes --image limner
launch kubernetes scenes --image limner --volume shared --partition gpu
plan scenes --algorithm TRPO --sampler.dynamics FlowSDE
plan sd15 --model.path nobody/knows
""".strip().splitlines()


def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    pages = []
    for command in ("", *COMMANDS):
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        pages.append(f"$ limner {command} --help\n{capsys.readouterr().out}")
    compare("help.txt", "\n".join(pages))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str) -> None:
    compare(f"recipe_{name}.yaml", to_yaml(recipe(name)))


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    """What a preset changes in the scenes recipe, line by line."""
    before = to_yaml(recipe("scenes")).splitlines()
    after = to_yaml(with_preset(recipe("scenes"), name)).splitlines()
    compare(f"preset_{name}.txt", "\n".join(line for line in after if line not in before) + "\n")


def test_bad_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One line each, exit code 2, and nothing written."""
    monkeypatch.chdir(tmp_path)
    answers = []
    for arguments in BAD:
        assert main(arguments.split()) == 2, arguments
        answers.append(f"$ limner {arguments}\n{capsys.readouterr().err}".replace(str(tmp_path), "HERE"))
        assert answers[-1].count("\n") == 2 and not list(tmp_path.iterdir())
    compare("bad_input.txt", "\n".join(answers))


def compare(name: str, found: str) -> None:
    file = FILES / name
    if os.environ.get("LIMNER_GOLDEN") == "write":
        file.write_text(found, encoding="utf-8")
    assert found == file.read_text(encoding="utf-8")
