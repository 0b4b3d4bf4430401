"""What docs/feedback.md tells people to type, from votes to a run against the reward that learned them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from feedback.collection import ledger_of, side_of, vote
from limner.cli import main
from run.miniature import Miniature
from run.test_reward_models import SMALL, collection


def test_every_command_of_the_page_runs(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands there, made tiny: a small collection, a small network, one step."""
    page = (Path(__file__).parents[2] / "docs" / "feedback.md").read_text(encoding="utf-8")
    typed = [shlex.split(line)[1:] for block in page.split("```sh")[1:] for line in block.split("```")[0].splitlines()]
    typed = [words for words in typed if words]
    assert [words[0] for words in typed] == [
        "feedback",
        "feedback",
        "reward",
        "reward",
        "train",
        "reward",
        *["loop"] * 3,
    ]
    monkeypatch.chdir(tmp_path)
    collection(tmp_path / "my_pictures", 60, float)
    ledger = ledger_of(tmp_path / "my_pictures", 12)
    [(_, token)] = ledger.invite(1)
    who = ledger.who(token)
    assert who is not None
    while given := ledger.next(who, 1):
        ledger.record(who, vote(given[0], side_of(ledger, given[0], "good")))
    rows = [json.loads(line) for line in collection(tmp_path / "others", 40, float, 1000, "p9").open()]
    moved = [row | {f"media_{side}": f"others/{row[f'media_{side}']}" for side in "ab"} for row in rows]
    Path("others.jsonl").write_text("".join(json.dumps(row) + "\n" for row in moved))
    for words in typed:
        if words[:2] == ["reward", "train"]:
            words += [f"--{key}={value}" for key, value in SMALL.items()]
        if words[0] == "train":
            words += ["--model.path", str(miniature.model), "--steps", "1", "--prompts_per_step", "2"]
            words += ["--micro_batch", "8", "--quiet", "--evaluation.prompts", ""]
        if words[0] == "loop":
            words += ["--model.path", str(miniature.model), "--steps", "1", "--prompts_per_step", "2", "--pairs", "48"]
            words += ["--micro_batch", "8", "--quiet", "--evaluation.prompts", "", "--rounds", "1"]
            words += [] if "people" in words else ["--annotator", miniature.reward("redness")]
            words += (
                []
                if "scenes_dpo" in words
                else [f"--learned.{key}={value}" for key, value in {**SMALL, "epochs": 2}.items()]
            )
            words += [] if "scenes_dpo" in words else ["--group_size", "2"]
        assert main(words) == 0, words
    said = capsys.readouterr().out
    assert "It is served at runs/served now" in said and (tmp_path / "runs" / "liked" / "report.html").exists()
    assert "ask people with: limner annotate runs/loop-scenes-0/round-1/asked.jsonl" in said
    for name in ("loop-active", "loop-dpo"):
        assert (tmp_path / "runs" / name / "round-1" / "policy" / "report.html").exists()
