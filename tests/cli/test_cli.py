"""The command line: what each command asks for, and one line with exit code 2 for everything that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import limner
import limner.run
from limner.cli import main
from limner.commands.parser import take_keys
from limner.core.errors import RunError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.training.config import RunConfig


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Trained:
    folder: Path
    leads: bool = True


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `train` was asked to do, without doing it."""
    calls: list[dict[str, Any]] = []

    def train(config: RunConfig, resume: bool, quiet: bool, accept_changes: bool) -> Trained:
        calls.append({"config": config, "resume": resume, "quiet": quiet})
        return Trained(Path("here"))

    monkeypatch.setattr(limner.run, "train", train)
    return calls


SPLITS: list[tuple[list[str], list[str], dict[str, Any]]] = [
    (["scenes", "--steps", "8"], ["scenes"], {"steps": "8"}),
    (["--steps", "8", "scenes"], ["scenes"], {"steps": "8"}),
    (["--steps=8", "scenes"], ["scenes"], {"steps": "8"}),
    (["--a.b-c", "-0.1", "scenes"], ["scenes"], {"a.b_c": "-0.1"}),
    (["--a-b=1", "--a_b=2"], [], {"a_b": "2"}),
    (["--on", "--seed", "3"], ["--seed", "3"], {"on": True}),
    (["scenes", "--on"], ["scenes"], {"on": True}),
    (["--on=", "x"], ["x"], {"on": ""}),
    (["-h", "--seed=3", "--"], ["-h", "--seed=3", "--"], {}),
]


@pytest.mark.parametrize(("arguments", "rest", "values"), SPLITS)
def test_keys_are_told_from_flags(arguments: list[str], rest: list[str], values: dict[str, Any]) -> None:
    assert take_keys(arguments, frozenset({"--seed", "--help"})) == (rest, values)


def test_train_changes_what_it_is_told(trained: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    base = limner.recipe("scenes")
    command = "train --steps 3 scenes --sampler.guidance=2.5 --seed 7 --prompts p.txt --out here --quiet --resume"
    assert main([*command.split(), "--reward", "0.5 * jpeg_size + f.py:g"]) == 0
    assert main(["train", "scenes"]) == 0
    first, second = trained
    config = first["config"]
    assert (config.steps, config.sampler.guidance, config.seed, config.prompts) == (3, 2.5, 7, "p.txt")
    assert config.reward == "0.5 * jpeg_size + f.py:g"
    assert (config.out, config.optimizer, config.algorithm) == ("here", base.optimizer, base.algorithm)
    assert (first["resume"], first["quiet"]) == (True, True)
    assert second == {"config": base, "resume": False, "quiet": False}
    assert capsys.readouterr().out.split() == [str(Path("here") / "report.html")] * 2


BAD = {
    "trian": "limner: unknown command 'trian'; did you mean 'train'?",
    "train": "limner: the following arguments are required: RECIPE",
    "train scenes other": "limner: unrecognized arguments: other",
    "train scnes": "limner: unknown recipe 'scnes'; did you mean 'scenes'?",
    "train nowhere.py": "limner: recipe nowhere.py: no such file",
    "train nowhere.yaml": "limner: recipe nowhere.yaml: no such file",
    "train scenes --stesp 3": "limner: unknown key --stesp; the nearest known key is --steps",
    "train scenes --lr 3": "limner: unknown key --lr; the nearest known key is --optimizer.lr",
    "train scenes --resum": "limner: unknown key --resum; ",
    "train scenes --steps ten": "limner: --steps needs an integer, got 'ten'",
    "train scenes --steps": "limner: --steps needs an integer, got nothing",
    "train scenes --steps 0": "limner: RunConfig: steps must be at least 1 and at most 100000000, got 0",
    "train scenes --seed x": "limner: --seed needs an integer, got 'x'",
    "train scenes --seed": "limner: argument --seed: expected one argument",
    "train scenes --optimizer.lr -1": "limner: Optimizer: lr must be above 0 and below 1, got -1.0",
    "train scenes --algorithm PPA": "limner: --algorithm cannot be 'PPA'",
    "train scenes --rewards jpeg_size": "limner: unknown key --rewards; the nearest known key is --reward",
    "train scenes --reward a --reward b": "limner: --reward is one expression: write --reward 'a + b'",
    "check scenes --resume": "limner: unknown key --resume; ",
    "sample": "limner: the following arguments are required: RUN, PROMPT",
    "sample nowhere star": "limner: nowhere is no run folder",
    "sample nowhere star --count 0": "limner: argument --count: needs a whole number from 1, got '0'",
    "report nowhere": "limner: nowhere is no run folder",
    "export nowhere": "limner: nowhere is no run folder",
    "list everything": "limner: unrecognized arguments: everything",
    "--verbose": "limner: ",
}


@pytest.mark.parametrize("command", BAD)
def test_bad_input_is_one_line(command: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(BAD[command])
    assert printed.err.count("\n") == 1 and printed.err.endswith("\n") and not printed.out
    assert not list(empty_folder.iterdir())


def test_bad_input_of_a_real_process(empty_folder: Path) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "limner", "train", "scenes", "--samplr.steps", "3"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and not done.stdout and not list(empty_folder.iterdir())
    assert done.stderr == "limner: unknown key --samplr.steps; the nearest known key is --sampler.steps\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RunError("the reward failed\nthree times"), 1, "limner: the reward failed three times\n"),
        (KeyboardInterrupt(), 130, "limner: interrupted; continue with: limner train scenes --out 'a b' --resume\n"),
    ],
)
def test_a_run_that_stops(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def train(config: RunConfig, resume: bool, quiet: bool, accept_changes: bool) -> Trained:
        raise error

    monkeypatch.setattr(limner.run, "train", train)
    assert main(["train", "scenes", "--out", "a b"]) == code
    assert capsys.readouterr().err == line


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(config: RunConfig, resume: bool, quiet: bool, accept_changes: bool) -> Trained:
        raise ZeroDivisionError

    monkeypatch.setattr(limner.run, "train", train)
    with pytest.raises(ZeroDivisionError):
        main(["train", "scenes"])


class FakeRun:
    suffixes = (".png",)

    def sample(self, prompt: Prompt, count: int, seed: int, steps: int | None, guidance: float | None) -> Images:
        assert (prompt, seed, steps, guidance) == (Prompt("Two red stars!"), 5, None, 1.5)
        return Images(torch.linspace(0, 1, count)[:, None, None, None].expand(count, 3, 64, 64))


def test_sample_writes_what_was_drawn(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limner.run, "open_run", lambda folder, trust: FakeRun())
    command = ["sample", "run", "Two red stars!", "--seed", "5", "--guidance", "1.5"]
    assert main(command) == 0 and main([*command, "--count", "2", "--out", "x/two.png"]) == 0
    one, two = capsys.readouterr().out.split()
    assert (one, two) == (str(Path("run/samples/two-red-stars-5.png")), str(Path("x/two.png")))
    assert Image.open(one).size == (64, 64) and Image.open(one).getpixel((0, 0)) == (0, 0, 0)
    assert Image.open(two).size > (128, 64)
    assert [Image.open(f"x/two-{seed}.png").getpixel((0, 0))[0] for seed in (5, 6)] == [0, 255]
    assert main([*command, "--out", "x/two.png"]) == 2
    assert "two.png is there already, and nothing is written over: give another --out" in capsys.readouterr().err
    assert main(command) == 0 and main([*command, "--count", "2"]) == 0
    again = [str(Path(f"run/samples/two-red-stars{end}")) for end in ("_2-5.png", "_3.png")]
    assert capsys.readouterr().out.split() == again
    assert Image.open("run/samples/two-red-stars_3-6.png").getpixel((0, 0))[0] == 255
    assert main([*command, "--out", "x/two.jpg"]) == 2
    assert "--out needs a name that ends in .png, got 'x/two.jpg'" in capsys.readouterr().err


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "recipes",
        "models",
        "rewards",
        "algorithms",
        "dynamics",
        "samplers",
        "sources",
        "focuses",
        "trainings",
        "presets",
        "prompts",
        "bases",
    ]
    assert {"scenes", "sd3", "jpeg_size", "FlowGRPO", "DiffusionNFT", "CPS", "dpok", "scenes_sd"} <= {
        line.split()[0] for line in lines
    }
    assert all(len(line.split()) > 1 for line in lines if line.startswith(" "))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert name == "limner" and version.count(".") == 2


def test_a_reader_that_leaves_is_no_bug() -> None:
    process = subprocess.Popen([sys.executable, "-m", "limner", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141
