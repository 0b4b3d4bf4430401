"""`limner keys` and shell completion: all keys there are, each with what it is, and nothing imported for a Tab."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import limner
from limner.cli import main
from limner.commands.completion import SHELLS
from limner.recipes.keys import keys
from limner.recipes.named import recipe
from limner.recipes.override import keys_of, override
from limner.registry.declared import completions, stated
from limner.registry.names import ALGORITHMS, DYNAMICS, FOCUSES, MODELS, RECIPES, SAMPLERS, SOURCES, TRAININGS
from limner.training.config import RunConfig

ROOT = Path(limner.__file__).parents[1]
CHOICES = {
    "algorithm": ALGORITHMS,
    "sampler.dynamics": DYNAMICS,
    "sampler": SAMPLERS,
    "source": SOURCES,
    "model.train": TRAININGS,
    "model.kind": tuple(MODELS),
}

SIZED, TOLD = ("resolution", "64"), ("negative_prompt", "dull")
LONG = ("max_sequence_length", "64")
SET = dict.fromkeys(MODELS, TOLD) | {
    "flux2": SIZED,
    "flux2_klein": SIZED,
    "gan": ("learns", "output"),
    "janus": LONG,
    "sana_sprint": SIZED,
}
"""A key of the settings of each kind, and a value."""


def chosen() -> list[RunConfig]:
    """Every recipe, and the first with each class that there is a choice of."""
    first = recipe("scenes")
    given = [{key: name} for key, names in CHOICES.items() for name in names if key != "algorithm"]
    given += [{"algorithm": name, "sampler.dynamics": "FlowSDE", "sampler.grid": "own"} for name in ALGORITHMS]
    given += [
        {"model.path": "elsewhere", "model.kind": kind, f"model.settings.{SET[kind][0]}": SET[kind][1]}
        for kind in MODELS
    ]
    path = {"algorithm": "FlowGRPO", "sampler.dynamics": "FlowSDE", "sampler.grid": "own"}
    given += [path | {"focus": name} for name in FOCUSES if name != "Local"]
    given += [path | {"focus": "Local", "focus.judge": "sharpness"}]
    pictures = {"source": "Pictures", "source.data": "scenes", "algorithm": "RewardWeighted"}
    return [*map(recipe, RECIPES), *(override(first, pictures if "source" in each else each) for each in given)]


def meant(kind: str) -> dict[str, str]:
    """Return what each setting of a kind of model means, by its name."""
    file, _, name = MODELS[kind].partition(":")
    return {field: each.meaning for field, each in stated(ROOT / f"{file.replace('.', '/')}.py", name).items()}


def test_every_key_has_a_meaning() -> None:
    silent = {key.name for config in chosen() for key in keys(config) if not key.meaning}
    assert not silent, 'say below the field, """so""", what it is; or in learning/shared.py, if several share it'


def test_settings_that_are_inherited_mean_what_their_head_says() -> None:
    """And those that are stated again what is said anew, or else the same."""
    said = {kind: meant(kind) for kind in ("mochi", "ltx")}
    for kind, told in said.items():
        assert told["width"] == "Width in pixels; None: the height.", kind
        assert told["max_sequence_length"] == "Tokens of a text, padding among them."
    assert said["mochi"]["fps"] == "Frames a second of the clips that are written."
    assert said["ltx"]["fps"] == "Frames a second, which the network is told."
    assert said["mochi"]["num_frames"].endswith("one more than a multiple of the autoencoder's (6).")


def test_the_source_names_the_keys_that_the_classes_have() -> None:
    """Completion reads the source, everything else the classes."""
    known = {".".join(path) for config in chosen() for path in keys_of(RunConfig, config)}
    read = {key for key, _ in completions()}
    assert read == known - {"model.settings"}


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("algorithm", list(ALGORITHMS)),
        ("sampler.dynamics", list(DYNAMICS)),
        ("model.kind", list(MODELS)),
        ("optimizer.schedule", ["constant", "cosine", "linear"]),
        ("overlap", ["true", "false", "none"]),
        ("precision.compile", ["true", "false"]),
        ("sampler.grid", ["own", "linear"]),
        ("algorithm.weighting", ["uniform", "t", "t2", "huber", "ghuber"]),
        ("steps", []),
    ],
)
def test_values_are_those_that_the_classes_take(key: str, values: list[str]) -> None:
    assert dict(completions())[key] == values


def test_a_key_says_value_range_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "scenes", "optimizer.l", "--optimizer.lr", "0.01"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "--optimizer.lr 0.01",
        "    a number, above 0 and below 1; 0.0003 unless a recipe says otherwise",
        "    Learning rate, after warm-up.",
    ]


def test_what_is_listed_can_be_typed() -> None:
    """All values of a recipe, as `limner keys` writes them, give the recipe again."""
    for name in RECIPES:
        config = recipe(name)
        values = {
            key.name: key.value for key in keys(config) if key.name not in ("model.settings", "evaluation.samplers")
        }
        assert override(config, values) == config


@pytest.mark.parametrize("word", ["--sampler.window-range", "WINDOW_RANGE", "window_range"])
def test_a_part_of_the_name_is_enough(word: str) -> None:
    assert [key.name for key in keys(recipe("scenes"), word)] == ["sampler.window_range"]


def test_a_word_in_no_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "scenes", "optimiser.lr"]) == 2
    assert "no key has 'optimiser.lr' in its name; did you mean 'optimizer.lr'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("stesp", "the nearest known key is --steps"),
        ("lr", "the nearest known key is --optimizer.lr"),
        ("frobnicate", "`limner keys RECIPE` lists all that are known"),
        ("x", "`limner keys RECIPE` lists all that are known"),
        ("quiet", "`limner keys RECIPE` lists all that are known"),
        ("prompt-adherence-weight", "`limner keys RECIPE` lists all that are known"),
    ],
)
def test_a_hint_is_near(key: str, hint: str) -> None:
    with pytest.raises(limner.UserError, match=f"^unknown key --{key}; {hint}"):
        override(recipe("scenes"), {key: "3"})


def ask(line: str, tmp_path: Path) -> list[str]:
    """Return what bash completes a line with, by the code that `limner completion bash` prints."""
    script = """
        eval "$(limner completion bash)"
        COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
        read -ra COMP_WORDS <<< "$1"
        [[ "$1" == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _python_argcomplete limner "${COMP_WORDS[-1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    here = tmp_path / "bin"
    here.mkdir(exist_ok=True)
    (here / "limner").write_text(f'#!/bin/sh\nexec {sys.executable} -m limner "$@"\n')
    (here / "limner").chmod(0o755)
    environment = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script, "bash", line], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


COMPLETED = {
    "limner tr": {"train"},
    "limner train wo": {"words"},
    "limner train scenes --algorithm Flow": {"FlowGRPO", "FlowDPPO"},
    "limner train scenes --optimizer.l": {"--optimizer.lr"},
    "limner check my_": {"my_recipe.py"},
    "limner train scenes --preset dance": {"dance_grpo"},
    "limner reward show jpeg": {"jpeg_size", "jpeg_compressibility"},
}


@pytest.mark.slow
def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "my_recipe.py").write_text("")
    (tmp_path / "my_notes.md").write_text("")
    for line, words in COMPLETED.items():
        assert set(ask(line, tmp_path)) == words, line


def test_no_tab_imports_torch(tmp_path: Path) -> None:
    """The process that a shell starts, with what was asked on descriptor 8."""
    line = "limner train scenes --sampler."
    code = "import runpy, sys; sys.argv = ['limner']\ntry: runpy.run_module('limner', run_name='__main__')\n"
    code += "finally: assert not {'torch', 'numpy', 'yaml'} & set(sys.modules)"
    told = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    told |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "words"), "_ARGCOMPLETE_SHELL": "bash"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **told}, capture_output=True, text=True)
    assert "AssertionError" not in done.stderr and done.returncode == 0, done.stderr
    assert "--sampler.steps" in (tmp_path / "words").read_text().split("\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_code(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "limner" in capsys.readouterr().out
