"""A user's own reward and prompts, from the command line and in Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import limner
from limner.cli import main
from limner.recipes.yaml import from_yaml, to_yaml
from limner.report.metrics import read
from run.miniature import Miniature

REWARD = """
import random

from helper import count


def my_reward(media, prompts):
    return [count(prompt) + i % 2 for i, prompt in enumerate(prompts)]
"""
HELPER = """
def count(prompt):
    return prompt.meta["wanted"]["count"]
"""
PROMPTS = [
    {"prompt": "two red stars", "wanted": {"count": 20}, "category": "many"},
    {"prompt": "a blue circle", "wanted": {"count": 10}, "category": "one"},
]


@pytest.fixture
def place(miniature: Miniature, tmp_path: Path) -> Path:
    """A user's folder: a recipe, a reward with a helper beside it, and prompts."""
    (tmp_path / "recipe.yaml").write_text(to_yaml(replace(miniature.config(tmp_path, steps=2), out="")))
    (tmp_path / "my_file.py").write_text(REWARD)
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "my_prompts.jsonl").write_text("\n".join(map(json.dumps, PROMPTS)))
    (tmp_path / "my_prompts.txt").write_text("a red circle\none green star\n")
    return tmp_path


EXPRESSION = "my_file.py:my_reward - 0.5 * jpeg_size"


def limner_in_a_process(place: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "limner", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def test_two_rewards_and_prompts_that_say_what_is_wanted(place: Path) -> None:
    """A real process, in the user's folder, with relative names; and the columns are logged raw."""
    options = ["--reward", EXPRESSION, "--prompts", "my_prompts.jsonl", "--seed", "3"]
    assert limner_in_a_process(place, "train", "recipe.yaml", *options) == ["runs/miniature-3/report.html"]
    lines = read(place / "runs/miniature-3")
    assert [line["step"] for line in lines] == [0, 1]
    for line in lines:
        assert line["reward/my_reward"] == pytest.approx(15.5)
        assert 0.1 < line["reward/jpeg_size"] < 10
        assert line["reward/mean"] == pytest.approx(15.5 - 0.5 * line["reward/jpeg_size"])
        assert line["contribution/jpeg_size"] == pytest.approx(-0.5 * line["term/jpeg_size"])
        assert line["reward/mean"] == pytest.approx(
            line["contribution/my_file.py:my_reward"] + line["contribution/jpeg_size"]
        )
        both = line["train/many"] + line["train/one"]
        assert line["train/many"] - line["train/one"] == pytest.approx(10, rel=0.02) and line["constant"] == 0
        assert both / 2 == pytest.approx(line["reward/mean"])
    config = from_yaml((place / "runs/miniature-3/config.yaml").read_text())
    assert config.reward == EXPRESSION
    page = (place / "runs/miniature-3/report.html").read_text()
    assert "Reward by column" in page and "my_reward" in page and "jpeg_size" in page


def test_prompts_one_a_line(
    place: Path, miniature: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    options = ["--prompts", "my_prompts.txt", "--reward", f"3 * {miniature.reward('seeing_only_red')}", "--out", "here"]
    assert main(["train", "recipe.yaml", *options]) == 0
    printed = capsys.readouterr()
    assert printed.out == "here/report.html\n" and printed.err.splitlines()[-2].startswith("miniature  2/2  reward 1.5")
    for line in read(place / "here"):
        assert line["reward/seeing_only_red"] == 0.5 and line["reward/mean"] == 1.5
        assert line["constant"] == 2 and "loss" not in line


def test_any_category_serves_and_none_is_counted_twice(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lists, numbers, null and the name of the whole: each has a column of its own, before, after, meanwhile."""
    monkeypatch.chdir(place)
    named = [["count", "colour"], 1, "one", None, "overall", {"kind": "größer"}]
    entries = [{"prompt": f"{word} star", "category": name} for word, name in zip("abcdef", named, strict=True)]
    (place / "mixed.jsonl").write_text("\n".join(map(json.dumps, entries)))
    changes = ["--prompts", "mixed.jsonl", "--evaluation.prompts", "mixed.jsonl", "--prompts_per_step", "6"]
    changes += ["--reward", "jpeg_size", "--evaluation.every", "1", "--out", "here"]
    assert main(["check", "recipe.yaml", *changes]) == 0
    kinds = '["count", "colour"] 1, 1 1, one 1, "overall" 1, {"kind": "größer"} 1'
    said = capsys.readouterr().out
    assert f"prompts      6: {kinds}, 1 without a category, in mixed.jsonl\n" in said
    assert main(["train", "recipe.yaml", *changes]) == 0
    line = read(place / "here")[0]
    columns = ['["count", "colour"]', "1", "one", '"overall"', '{"kind": "größer"}']
    assert {name for name in line if name.startswith("train/")} == {f"train/{name}" for name in columns}
    assert {name for name in line if name.startswith("heldout/")} == {
        f"heldout/{name}" for name in [*columns, "overall"]
    }
    assert json.loads((place / "here/summary.json").read_text())["heldout"]["after"]["n"] == 6


def test_what_is_left_out_of_a_prompt_file_is_said(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    (place / "hash.txt").write_text("# colours\n#ff0000 circle\ntwo red stars\n#\n")
    assert main(["check", "recipe.yaml", "--prompts", "hash.txt", "--reward", "jpeg_size"]) == 0
    assert "prompts      2, in hash.txt; 2 lines left out as comments\n" in capsys.readouterr().out


def test_a_sample_is_drawn_from_the_result(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert main(["train", "recipe.yaml", "--out", "here", "--quiet"]) == 0
    assert main(["sample", "here", "two red stars", "--count", "2"]) == 0
    assert (place / "here/samples/two-red-stars-0.png").is_file()


def test_the_same_in_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    changes: dict[str, Any] = {"prompts": "my_prompts.jsonl", "steps": "1", "out": "python"}
    config = limner.override(limner.recipe("recipe.yaml"), changes)
    config = replace(config, reward="2 * my_file.py:my_reward")
    run = limner.train(config)
    assert read(run.folder)[0]["reward/mean"] == pytest.approx(31)
    assert run.sample("two red stars").media.pixels.shape == (4, 3, 32, 32)
    assert (run.export("my-lora") / "pytorch_lora_weights.safetensors").is_file()


def test_judges_that_work_meanwhile_change_nothing(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a cache of what they said, and with it nothing is asked twice."""
    told = {}
    for name, changes in {
        "plain": {},
        "overlap": {"overlap": True},
        "cache": {"reward_cache": str(tmp_path / "c")},
    }.items():
        config = replace(miniature.config(tmp_path / name, micro_batch=3, **changes), reward="jpeg_size")
        run = limner.train(config, quiet=True)
        told[name] = [{k: v for k, v in line.items() if not k.startswith("seconds/")} for line in read(run.folder)]
    assert told["plain"] == told["overlap"] == told["cache"] and (tmp_path / "c" / "rewards.sqlite").stat().st_size > 0
    monkeypatch.setattr("limner.rewards.jpeg_size._kilobytes", lambda frame: 1 / 0)
    again = replace(config, out=str(tmp_path / "again"), evaluation=replace(config.evaluation, reward=""))
    lines = read(limner.train(again, quiet=True).folder)
    assert [line["reward/mean"] for line in lines] == [line["reward/mean"] for line in told["plain"]]
