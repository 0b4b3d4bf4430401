"""What docs/feedback.md and the README tell people to type, from votes to a run against what was learned of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from feedback.collection import two_folders
from limner.annotate import of_run
from limner.cli import main
from limner.feedback.ledger import Ledger
from run.miniature import Miniature
from run.test_reward_models import SMALL, collection
from run.test_tastes import HEAD
from run.typed import Asking, annotating, brighter, typed

PROMPTS = 36
"""Of which some are for training, some for calibration and some are held out."""


@pytest.fixture(scope="module")
def tuned(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that has drawn pictures of many prompts before and after."""
    folder = tmp_path_factory.mktemp("tuned")
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"thing {i}\n" for i in range(PROMPTS)))
    words = ["train", "scenes", *tiny(miniature, steps=2), "--prompts", str(prompts), "--reward"]
    words += [miniature.reward("redness"), "--optimizer.lr", "0.05", "--evaluation.reward", "contrast"]
    words += ["--evaluation.prompts", str(prompts), "--evaluation.seeds", "1", "--evaluation.ode_steps", "0"]
    assert main([*words, "--evaluation.every", "0", "--out", str(folder / "scenes-0")]) == 0
    shutil.copy(prompts, folder / "scenes-0")
    return folder / "scenes-0"


def tiny(miniature: Miniature, steps: int = 1) -> list[str]:
    words = ["--model.path", str(miniature.model), "--steps", str(steps), "--prompts_per_step", "2"]
    return [*words, "--micro_batch", "8", "--sampler.steps", "6", "--quiet"]


def smaller(words: Sequence[str], miniature: Miniature) -> list[str]:
    """Return a command as it is typed, made tiny: a small network, one step, and nothing that is measured."""
    more: list[str] = []
    learning = SMALL | {"epochs": 2}
    if words[:2] == ["reward", "train"]:
        more = [f"--{key}={value}" for key, value in SMALL.items()]
    elif words[0] == "train":
        more = [*tiny(miniature), "--evaluation.prompts", ""]
        more += [] if "scenes_dpo" in words else ["--group_size", "2"]
    elif words[0] == "loop":
        more = [*tiny(miniature), "--pairs", "48", "--evaluation.prompts", "", "--rounds", "1"]
        more += [] if "people" in words else ["--annotator", miniature.reward("redness")]
        if "scenes_dpo" not in words:
            more += [
                "--doubtful",
                "train",
                "--group_size",
                "2",
                *(f"--learned.{key}={value}" for key, value in learning.items()),
            ]
    return [*words, *more]


def greys(place: Path, count: int) -> None:
    """Write pairs of grey pictures, of any levels, in two folders under equal names; of sixty, two are the same."""
    rows = [json.loads(line) for line in collection(place / ".made", count, float).open()]
    for side in "ab":
        (place / side).mkdir()
        for i, row in enumerate(rows):
            (place / ".made" / row[f"media_{side}"]).rename(place / side / f"thing {i}x.png")


def before_and_after(asking: Asking, run: Path) -> None:
    """What is asked of a run are its own pictures, before and after, at equal prompts and seeds."""
    items, tasks = of_run(run)
    prompts = (run / "prompts.txt").read_text().splitlines()
    by_id = {item.id: item for item in items}
    assert len(items) == 2 * PROMPTS and len(tasks) >= PROMPTS - 2  # but where both pictures are the same
    assert f"{len(tasks)} pairs of {len(items)} items, 1 vote each" in asking.said
    for task in tasks:
        both = {by_id[id].source: by_id[id] for id in task.items}
        assert set(both) == {"before", "after"} and {item.prompt for item in both.values()} == {task.prompt}
        for moment, item in both.items():
            name = f"{prompts.index(task.prompt):03d}-{item.facts['seed']}.png"
            assert item.path == (run / "samples" / f"{moment}-sampler" / name).resolve()
            assert item.facts["run"] == run.name
        assert both["before"].facts["seed"] == both["after"].facts["seed"]
    ledger = Ledger(f"sqlite:///{run / 'votes.db'}", new=False)
    assert {task.id for task in ledger.board.tasks.values() if task.better is None} == {task.id for task in tasks}


def test_every_command_of_the_page_runs(
    miniature: Miniature,
    tuned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As it stands there, made tiny: a small collection, a small network, one step. Those of two: test_tastes.py."""
    commands = typed("docs/feedback.md")
    assert [words[0] for words in commands] == [
        *["annotate"] * 4,
        *["feedback"] * 2,
        *["reward", "reward", "train", "reward"],
        *["annotate", "feedback", "reward", "train", "train"],
        *["loop"] * 4,
    ]
    others = typed("docs/feedback.md", HEAD)
    assert others == commands[10:15]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tuned, "runs/scenes-0")
    greys(tmp_path / "my_pictures", 60)
    collection(tmp_path / "more", 4, float)
    shutil.copytree("more", "runs/pairs-scenes")
    told = [json.loads(line) for line in Path("more/pairs.jsonl").open()]
    moved = [row | {f"media_{side}": f"more/{row[f'media_{side}']}" for side in "ab"} for row in told]
    Path("my_pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in moved))
    for words, what, most in zip(
        commands[:4],
        (f" pairs of {2 * PROMPTS} items", "59 pairs of 120", "4 pairs of 8", "4 pairs of 8"),
        (3, 999, 1, 1),
        strict=True,
    ):
        with annotating(words, monkeypatch, capsys) as asking:
            assert what in asking.said
            if words[1] == "runs/scenes-0":
                before_and_after(asking, Path(words[1]))
            assert asking.answer(asking.tokens[0], brighter, most) >= min(most, 59)
    kept = Ledger(f"sqlite:///{tmp_path / 'my_pairs.db'}", new=False)
    assert len(list(kept.votes())) == 1
    rows = [json.loads(line) for line in collection(tmp_path / "others", 40, float, 1000, "p9").open()]
    moved = [row | {f"media_{side}": f"others/{row[f'media_{side}']}" for side in "ab"} for row in rows]
    Path("others.jsonl").write_text("".join(json.dumps(row) + "\n" for row in moved))
    for words in [*commands[4:10], *commands[15:]]:
        apart = ["--out", "runs/loop-two"] if "learned(taste='annotator-1')" in words else []
        assert main([*smaller(words, miniature), *apart]) == 0, words
    said = capsys.readouterr().out
    assert len(Path("my_pictures/pairs.jsonl").read_text().splitlines()) == 59
    assert "It is served at runs/served now" in said and (tmp_path / "runs" / "liked" / "report.html").exists()
    assert "ask people with: limner annotate runs/loop-scenes-0/round-1/asked.jsonl\n" in said
    assert "ask people with: limner annotate runs/loop-two/round-1/asked.jsonl --invite 2 --votes 2\n" in said
    for name in ("loop-active", "loop-dpo"):
        assert (tmp_path / "runs" / name / "round-1" / "policy" / "report.html").exists()


def test_every_command_of_the_readmes_chapter_runs(
    miniature: Miniature,
    tuned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From two folders, and from friends who are shown a run's pictures: as it stands there, made tiny."""
    commands = typed("README.md", "## People's preferences")
    assert [words[0] for words in commands] == ["train", "annotate", "feedback", "feedback", "reward", "train", "loop"]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tuned, "runs/scenes-0")
    two_folders(tmp_path / "my_folder", 4)
    for old, new in (("good", "chosen"), ("bad", "rejected")):
        (tmp_path / "my_folder" / old).rename(tmp_path / "my_folder" / new)
    for words in commands:
        if words[0] == "annotate":
            with annotating(words, monkeypatch, capsys) as asking:
                assert asking.answer(asking.tokens[0], brighter) >= PROMPTS - 2
        else:
            assert main(smaller(words, miniature)) == 0, words
    assert len(Path("pairs.jsonl").read_text().splitlines()) >= PROMPTS - 2
    report = Path("report.html").read_text()
    assert "before" in report and "after" in report
    for run in ("scenes_dpo-0", "taste", "liked"):
        assert Path("runs", run, "report.html").exists()
    assert "ask people with: limner annotate runs/loop-scenes-0/round-1/asked.jsonl\n" in capsys.readouterr().out
