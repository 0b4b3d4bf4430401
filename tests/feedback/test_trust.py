"""Who is left out of an export, and what each row says of where its pictures came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from feedback.collection import ledger_of, side_of, two_folders, vote
from limner.annotate import of_run
from limner.cli import main
from limner.core.types import Prompt
from limner.evaluate import store
from limner.evaluate.protocol import Evaluation
from limner.feedback.choosing import Asking
from limner.feedback.desk import Desk
from limner.feedback.gold import gold, spoil
from limner.feedback.ledger import Ledger
from limner.feedback.report import collected, report
from limner.feedback.sources import gather
from limner.feedback.trust import untrusted


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """Return votes of three on 24 pairs: two choose what is good, and what is not spoilt, the third the other."""
    folder = tmp_path_factory.mktemp("three")
    ledger = ledger_of(folder, 24, least=3, most=3, gold=0.5, repeat=0.0)
    ledger.add(*gold(spoil(list(ledger.board.items.values()), 6), folder / "gold"))
    for name, token in ledger.invite(4)[:3]:
        who = ledger.who(token)
        assert who is not None
        while given := ledger.next(who, 1):
            known = ledger.board.tasks[given[0].task].better is not None
            right = ("left", "right")[given[0].order.index(0)] if known else side_of(ledger, given[0], "good")
            wrong = {"left": "right", "right": "left"}[right]
            ledger.record(who, vote(given[0], wrong if name == "annotator-3" else right))
    return ledger


def exported(ledger: Ledger, out: Path, *arguments: str) -> list[dict]:
    place = str(ledger.engine.url).removeprefix("sqlite:///")
    assert main(["feedback", "export", place, "--out", str(out), *arguments]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--without", "annotator-3"], "as --without says"),
        (["--least-known", "0.7"], "known answers right, less than 70.0 %"),
        (["--least-right", "0.5"], "of cases, less than 50.0 %"),
        (["--least-right", "0.5", "--least-known", "0.7", "--without", "annotator-3"], "as --without says"),
    ],
)
def test_who_fails_is_left_out_and_it_is_said_why(
    three: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    everybody = exported(three, tmp_path / "all.jsonl")
    assert len(everybody) == 24 and all(row["n"] == 3 and row[f"source_{row['choice']}"] == "good" for row in everybody)
    assert capsys.readouterr().err == ""
    rows = exported(three, tmp_path / "some.jsonl", *arguments)
    assert len(rows) == 24 and all(row["n"] == 2 and "annotator-3" not in row["annotators"] for row in rows)
    assert all({row["votes_a"], row["votes_b"]} == {0, 2} for row in rows)
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("left out: annotator-3, ") and why in said


def test_known_answers_are_counted(three: Ledger) -> None:
    asked = sum(vote.better is not None for vote in three.votes() if vote.annotator == "annotator-3")
    assert asked > 0
    assert untrusted(three, (), 0.01) == (
        {"annotator-3": f"0 of {asked} known answers right, less than 1.0 %"},
        [],
    )
    assert untrusted(three, ("annotator-1",), 1.0)[0].keys() == {"annotator-1", "annotator-3"}


def test_of_whom_nothing_can_be_said_stays_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = ledger_of(tmp_path, 2, gold=0.0, repeat=0.0)
    who = ledger.who(ledger.invite(1)[0][1])
    assert who is not None
    ledger.record(who, vote(ledger.next(who, 1)[0], "left"))
    assert len(exported(ledger, tmp_path / "out.jsonl", "--least-known", "0.9", "--least-right", "0.9")) == 1
    assert capsys.readouterr().err.splitlines() == [
        "stays: annotator-1, who answered no question whose answer is known",
        "stays: annotator-1, who judged nothing that another judged",
    ]
    for arguments, words in (
        (["--without", "annotator-1"], "nothing was said there yet, but by who was left out"),
        (["--without", "somebody"], "--without somebody: nobody is called so; there are annotator-1"),
        (["--least-known", "7"], "needs a number from 0 to 1"),
    ):
        place = str(tmp_path / "votes.db")
        assert main(["feedback", "export", place, "--out", str(tmp_path / "none.jsonl"), *arguments]) == 2
        assert words in capsys.readouterr().err
    assert main(["feedback", "report", place, "--out", str(tmp_path / "r.html"), "--least-known", "0.5"]) == 2
    assert "are of feedback export" in capsys.readouterr().err


def test_a_vote_says_where_its_pictures_came_from(tmp_path: Path) -> None:
    """The run and the seed of each, in lines and in a table; and what is asked of an export again knows them too."""
    place = tmp_path / "my-run"
    prompts = (Prompt("a red star", {"category": "colour"}), Prompt("two stars", {"category": "count"}))
    for moment, level in (("before", 10), ("after", 200)):
        stills = torch.full((2, 2, 3, 8, 8), level, dtype=torch.uint8)
        stills[..., 0, 0, 0] = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
        worth = torch.zeros(2, 2, dtype=torch.float64)
        store.save(
            place / "samples" / f"{moment}-sampler", Evaluation(prompts, (5, 7), worth, worth.isfinite(), stills)
        )
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*of_run(place))
    who = ledger.who(ledger.invite(1)[0][1])
    assert who is not None
    while given := ledger.next(who, 1):
        ledger.record(who, vote(given[0], "left"))
    rows = exported(ledger, tmp_path / "out.jsonl")
    for row in rows:
        seed = int(Path(row["media_a"]).stem.split("-")[1])
        assert row["facts_a"] == row["facts_b"] == {"run": "my-run", "seed": seed, "category": row["category"]}
    assert sorted((row["prompt"], row["facts_a"]["seed"]) for row in rows) == [
        (prompt.text, seed) for prompt in prompts for seed in (5, 7)
    ]
    items, _ = gather(tmp_path / "out.jsonl")
    assert {item.path: dict(item.facts) for item in items} == {
        item.path: dict(item.facts) for item in ledger.board.items.values()
    }
    pytest.importorskip("pyarrow")
    from pyarrow.parquet import read_table

    assert main(["feedback", "export", str(tmp_path / "votes.db"), "--out", str(tmp_path / "out.parquet")]) == 0
    kept = read_table(tmp_path / "out.parquet").to_pylist()
    assert [json.loads(row["facts_b"]) for row in kept] == [row["facts_b"] for row in rows]


def test_kinds_of_prompts_and_what_is_to_be_hidden_are_kept_of_pairs(tmp_path: Path) -> None:
    place = two_folders(tmp_path / "set", 2)
    rows = [
        {"prompt": name, "media_a": f"good/{name}.png", "media_b": f"bad/{name}.png", "category": kind} | more
        for name, kind, more in (("prompt 0a", "plain", {"sensitive": True, "fps": 8}), ("prompt 1a", "hard", {}))
    ]
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*gather(place / "pairs.jsonl"))
    facts = {item.path.stem: dict(item.facts) for item in ledger.board.items.values()}
    assert facts == {
        "prompt 0a": {"category": "plain", "sensitive": True, "fps": 8},
        "prompt 1a": {"category": "hard"},
    }
    who = ledger.who(ledger.invite(1)[0][1])
    assert who is not None
    while given := ledger.next(who, 1):
        shown = Desk(ledger, "")._shown(given[0])
        assert all(each["veiled"] == (shown["prompt"] == "prompt 0a") for each in shown["items"])
        ledger.record(who, vote(given[0], side_of(ledger, given[0], "a")))
    [slices] = [
        s for s in report(collected(str(tmp_path / "votes.db")), "t").sections if s.title == "By kind of prompt"
    ]
    assert slices.tables[0].columns == ("Made by", "hard", "plain")


def test_what_is_asked_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An export goes over an earlier one, and not over the pairs that it is of, which would be lost."""
    place = two_folders(tmp_path / "set", 1)
    asked = json.dumps({"prompt": "one", "media_a": "good/prompt 0a.png", "media_b": "bad/prompt 0a.png"})
    (place / "pairs.jsonl").write_text(asked)
    ledger = Ledger(f"sqlite:///{place / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*gather(place))
    who = ledger.who(ledger.invite(1)[0][1])
    assert who is not None
    ledger.record(who, vote(ledger.next(who, 1)[0], "left"))
    assert main(["feedback", "export", str(place / "votes.db"), "--out", str(place / "pairs.jsonl")]) == 2
    assert "it holds pairs that are no export" in capsys.readouterr().err
    assert (place / "pairs.jsonl").read_text() == asked
    assert exported(ledger, place / "said.jsonl") == exported(ledger, place / "said.jsonl")
