"""Who is left out of an export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from feedback.collection import ledger_of, side_of, vote
from limner.cli import main
from limner.feedback.gold import gold, spoil
from limner.feedback.ledger import Ledger
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
