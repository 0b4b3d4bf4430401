"""Run folders that are damaged in every way: each command says so in one line, or repairs it; nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import limner
from limner.cli import main
from limner.report.metrics import read
from limner.training.config import Evaluation
from run.miniature import Miniature

STEPS = 2
COMMANDS = ("train", "report", "sample", "export")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").iterdir())


def replaced_by_folder(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (path / "inside").mkdir(parents=True)


def replaced_by_file(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.write_text("x")


def write(name: str, text: str | bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(text if isinstance(text, bytes) else text.encode()) and None


def lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def changed(run: Path) -> None:
        found = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run / "metrics.jsonl").write_text("".join(change(found)))

    return changed


def change(name: str, key: str, value: object) -> Callable[[Path], None]:
    """Put another value into a file of JSON."""
    return lambda run: (
        (run / name).write_text(json.dumps({**json.loads((run / name).read_text()), key: value})) and None
    )


def foreign_checkpoint(run: Path) -> None:
    """A whole file by name and bytes, of something else."""
    from limner.engine import checkpoint

    checkpoint.save(run / "checkpoints", 9, {"weights": {"policy": {}}})


STILL, REWARDS = "samples/before-sampler/000-0.png", "samples/before-sampler/rewards.json"
NO_RUN, CUT, BROKEN, NONE_WHOLE = "no run folder", "has been cut", "is no iteration", "no whole checkpoint"
UNREADABLE = "cannot be read"

Expected = tuple[str, str, str, str]


def every(text: str) -> Expected:
    return (text, text, text, text)


KINDS: dict[str, tuple[Callable[[Path], None], Expected]] = {
    "config cut in a line": (lambda run: cut(run / "config.yaml"), every("config.yaml")),
    "config cut between lines": (
        lambda run: (
            (run / "config.yaml").write_text((run / "config.yaml").read_text().partition("sampler:")[0]) and None
        ),
        every(CUT),
    ),
    "config empty": (write("config.yaml", ""), every("holds no keys")),
    "config binary": (write("config.yaml", b"\xff\xfe\x00"), every("not UTF-8 text")),
    "config missing": (lambda run: (run / "config.yaml").unlink(), every(NO_RUN)),
    "config a folder": (
        lambda run: replaced_by_folder(run / "config.yaml"),
        ("not a plain file", NO_RUN, NO_RUN, NO_RUN),
    ),
    "folder a file": (replaced_by_file, ("is a file", NO_RUN, NO_RUN, NO_RUN)),
    "a line broken": (lines(lambda all: ["{" + all[0], *all[1:]]), (BROKEN, BROKEN, "", "")),
    "a line no object": (lines(lambda all: ["3\n", *all[1:]]), (BROKEN, BROKEN, "", "")),
    "a line twice": (lines(lambda all: [all[0], *all]), (BROKEN, BROKEN, "", "")),
    "a number no number": (write("metrics.jsonl", '{"step": 0, "lr": "x"}\n'), (BROKEN, BROKEN, "", "")),
    "the last line cut": (lines(lambda all: [*all, '{"step": 2, "lo']), every("")),
    "the last line not ended": (lines(lambda all: [*all[:-1], all[-1].strip()]), every("")),
    "lines binary": (write("metrics.jsonl", b"\xff\x00\n"), (UNREADABLE, UNREADABLE, "", "")),
    "lines missing": (lambda run: (run / "metrics.jsonl").unlink(), every("")),
    "lines a folder": (lambda run: replaced_by_folder(run / "metrics.jsonl"), (UNREADABLE, UNREADABLE, "", "")),
    "all checkpoints cut": (lambda run: [cut(path) for path in checkpoints(run)] and None, every(NONE_WHOLE)),
    "the last checkpoint cut": (lambda run: cut(checkpoints(run)[-1]), every("")),
    "no checkpoints": (lambda run: shutil.rmtree(run / "checkpoints"), every(NONE_WHOLE)),
    "checkpoints a file": (lambda run: replaced_by_file(run / "checkpoints"), every(NONE_WHOLE)),
    "a checkpoint a folder": (lambda run: replaced_by_folder(checkpoints(run)[-1]), ("Is a directory", "", "", "")),
    "a foreign checkpoint": (foreign_checkpoint, every("checkpoint is of other weights")),
    "a still no picture": (write(STILL, "x"), ("", UNREADABLE, "", UNREADABLE)),
    "a still cut": (lambda run: cut(run / STILL), ("", UNREADABLE, "", UNREADABLE)),
    "a still missing": (lambda run: (run / STILL).unlink(), ("", UNREADABLE, "", UNREADABLE)),
    "rewards cut": (lambda run: cut(run / REWARDS), ("", UNREADABLE, "", UNREADABLE)),
    "rewards of another form": (write(REWARDS, "[1]"), ("", UNREADABLE, "", UNREADABLE)),
    "samples a file": (lambda run: replaced_by_file(run / "samples"), ("samples", "", "samples", "")),
    "summary missing": (lambda run: (run / "summary.json").unlink(), every("")),
    "summary empty": (write("summary.json", ""), every("")),
    "summary of another form": (write("summary.json", "[]"), every("")),
    **{
        f"summary with {value} for {key}": (change("summary.json", key, value), every(""))
        for key, value in (("seconds", "x"), ("seconds", {"total": None}), ("notices", [3]), ("peak_memory_mib", {}))
    },
    "manifest empty": (write("manifest.json", ""), (UNREADABLE, UNREADABLE, "", "")),
    "manifest missing": (lambda run: (run / "manifest.json").unlink(), every("")),
    "export cut": (lambda run: cut(next((run / "export").glob("*.safetensors"))), every("")),
    "export a file": (lambda run: replaced_by_file(run / "export"), ("export", "", "", "export")),
    "report a folder": (lambda run: replaced_by_folder(run / "report.html"), ("report.html", "report.html", "", "")),
}


@pytest.fixture(scope="module")
def whole(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "run"
    evaluation = Evaluation(str(miniature.prompts), seeds=1)
    limner.train(miniature.config(folder, evaluation=evaluation, steps=STEPS), quiet=True)
    return folder


def arguments(command: str, run: Path, recipe: Path) -> list[str]:
    match command:
        case "train":
            return ["train", str(recipe), "--out", str(run), "--resume", "--quiet"]
        case "sample":
            return ["sample", str(run), "two red stars"]
    return [command, str(run)]


@pytest.mark.parametrize("kind", KINDS)
def test_one_line_or_repaired(kind: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands on a copy each; where one succeeds, all iterations are there, and the other records as they were."""
    damage, expected = KINDS[kind]
    recipe = tmp_path / "recipe.yaml"
    shutil.copy(whole / "config.yaml", recipe)
    logged = (whole / "metrics.jsonl").read_text()
    for command, text in zip(COMMANDS, expected, strict=True):
        run = shutil.copytree(whole, tmp_path / command)
        damage(run)
        code = main(arguments(command, run, recipe))
        printed = capsys.readouterr().err.splitlines()
        if text:
            assert code in (1, 2), printed
            assert printed[-1].startswith("limner: ") and text in printed[-1], (command, code, printed)
        else:
            assert code == 0, (command, printed)
        if expected[0] or "line" not in kind:
            continue
        steps = [line["step"] for line in read(run)]
        assert steps == list(range(STEPS)) if kind != "lines missing" else steps == []
        assert command != "train" or kind == "lines missing" or (run / "metrics.jsonl").read_text() == logged


def test_what_is_only_read_is_not_written(whole: Path, tmp_path: Path) -> None:
    """Samples before are as they were, to their time of writing; one that cannot be read is drawn again, the same."""
    run = shutil.copytree(whole, tmp_path / "run")
    place = run / "samples" / "before-sampler"
    times = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    assert main(["train", str(run / "config.yaml"), "--out", str(run), "--resume", "--quiet"]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in place.iterdir()} == times
    picture = (run / STILL).read_bytes()
    (run / STILL).write_bytes(picture[:50])
    assert main(["train", str(run / "config.yaml"), "--out", str(run), "--resume", "--quiet"]) == 0
    assert (run / STILL).read_bytes() == picture
    notices = json.loads((run / "summary.json").read_text())["notices"]
    assert any("before-sampler cannot be read" in notice for notice in notices)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may do everything")
@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", ""])
def test_without_permission(name: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    (run / name).chmod(0)
    try:
        for command in ("train", "report"):
            assert main(arguments(command, run, whole / "config.yaml")) == 2
            assert capsys.readouterr().err.count("\n") == 1
    finally:
        (run / name).chmod(0o700)
