"""What is exported: all that people said, in layouts that are read again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from feedback.collection import ledger_of, side_of, two_folders, vote
from limner.cli import main
from limner.data.preferences import read_preferences
from limner.feedback.answer import Answer
from limner.feedback.choosing import Asking
from limner.feedback.export import rows
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather
from limner.feedback.standing import standing

CHOICES = ("good", "bad", "tie_good", "tie_bad")
"""What is said of the pairs, in the order in which they are asked: a source is the one that wins."""


@pytest.fixture
def collected(tmp_path: Path) -> Ledger:
    """Return a ledger in which one person has said each thing of a pair, the first with all that can be added."""
    ledger = ledger_of(tmp_path, len(CHOICES), gold=0.0, repeat=0.0)
    [(_, token)] = ledger.invite(1)
    who = ledger.who(token)
    assert who is not None
    for i, choice in enumerate(CHOICES):
        [given] = ledger.next(who, 1)
        side = side_of(ledger, given, choice) if i < 2 else choice
        more = {"words": [0], "strength": 3, "text": "too dark"} if i == 0 else {}
        mark = {"item": 0, "kind": "artifact", "r": 0.1, "points": [[0.5, 0.5]]}
        more |= {"marks": [mark]} if i == 0 else {}
        payload = {"choices": {"overall": side}} | more
        ledger.record(who, Answer(f"the-key-{i}", given.id, "vote", payload, 1500, 1400, "1280x720"))
    return ledger


def exported(ledger: Ledger, out: Path, *arguments: str) -> list[dict]:
    """Return the rows that the command writes."""
    place = str(ledger.engine.url).removeprefix("sqlite:///")
    assert main(["feedback", "export", place, "--out", str(out), *arguments]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()] if out.suffix == ".jsonl" else []


def test_all_that_was_added_to_an_answer_is_exported(collected: Ledger, tmp_path: Path) -> None:
    first = exported(collected, tmp_path / "set" / "pairs.jsonl")[0]
    [said] = first["said"]
    assert (said["words"], said["strength"], said["text"], said["seconds"]) == (["prompt"], 3, "too dark", 1.5)
    left = next(iter(collected.board.assignments.values())).order[0]
    assert [(mark["item"], mark["kind"]) for mark in said["marks"]] == [(left, "artifact")]
    assert {Path(first[name]).parent.name for name in ("media_a", "media_b")} == {"good", "bad"}
    assert not Path(first["media_a"]).is_absolute()  # the folder can be moved


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("layout", "worth"),
    [
        ("limner", {"good": [(1, 0)], "bad": [(0, 1)], "tie_good": [(1, 1)], "tie_bad": [(0, 0)]}),
        ("pick_a_pic", {"good": [(1, 0)], "bad": [(0, 1)], "tie_good": [(0.5, 0.5)], "tie_bad": [(0.5, 0.5)]}),
        ("video_reward", {"good": [(1, 0)], "bad": [(0, 1)], "tie_good": [(0.5, 0.5)], "tie_bad": [(0.5, 0.5)]}),
        ("hpd", {"good": [(1, 0)], "bad": [(0, 1)]}),
        ("trl", {"good": [(1, 0)], "bad": [(0, 1)]}),
        ("kto", {"good": [(1, 0)], "bad": [(0, 1)], "tie_good": [(1, 1)], "tie_bad": [(0, 0)]}),
    ],
)
def test_every_layout_is_read_as_what_was_said(
    collected: Ledger, tmp_path: Path, layout: str, suffix: str, worth: dict
) -> None:
    """By picture: what the good and the bad one of each pair are worth, whichever row says it."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"export.{suffix}"
    exported(collected, out, "--layout", layout)
    found: dict[str, dict[str, float]] = {}
    for each in read_preferences(out)[0]:
        for picture, value in zip(each.pictures, each.worth, strict=True):
            assert isinstance(picture, Path)
            found.setdefault(each.prompt.text, {})[picture.resolve().parent.name] = value
    asked = [collected.board.tasks[each.task].prompt for each in collected.board.assignments.values()]
    wanted = {asked[CHOICES.index(said)]: pairs[0] for said, pairs in worth.items()}
    assert {prompt: (each["good"], each["bad"]) for prompt, each in found.items()} == wanted


def test_a_row_a_vote_says_who_cast_it(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 3, least=2, most=2, gold=0.0, repeat=0.0)
    for name, token in ledger.invite(2):
        who = ledger.who(token)
        assert who is not None
        while given := ledger.next(who, 1):
            ledger.record(who, vote(given[0], side_of(ledger, given[0], "good" if name == "annotator-1" else "bad")))
    together, apart = (list(rows(ledger, each_vote)) for each_vote in (False, True))
    assert len(together) == 3 and all((row["votes_a"], row["votes_b"], row["choice"]) == (1, 1, "") for row in together)
    assert len(apart) == 6 and all(row["n"] == 1 for row in apart)
    for row in apart:
        wanted = "good" if row["annotators"] == ["annotator-1"] else "bad"
        assert row[f"source_{row['choice']}"] == wanted


def test_what_was_asked_actively_is_said_so_and_read_so(tmp_path: Path) -> None:
    """And of held-out prompts nothing is."""
    ledger = ledger_of(tmp_path, 12, gold=0.0, repeat=0.0, active=True)
    who = ledger.who(ledger.invite(1)[0][1])
    assert who is not None
    while given := ledger.next(who, 1):
        ledger.record(who, vote(given[0], "left"))
    out = tmp_path / "pairs.jsonl"
    found = exported(ledger, out)
    assert len(found) == 12 and {row["split"] for row in found} == {"heldout", "train"}
    assert all(row["asked"] == [{"heldout": "random", "train": "active"}[row["split"]]] for row in found)
    assert [each.active for each in read_preferences(out)[0]] == [row["split"] == "train" for row in found]


def test_several_questions_are_exported_and_reported_from_the_file_alone(tmp_path: Path) -> None:
    """By commands, which open a ledger without being told what was asked; then another question is asked beside."""
    place = two_folders(tmp_path / "set", 6)
    for start, questions in ((0, ("alignment", "quality")), (3, ("overall",))):
        ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0), questions)
        ledger.add(*gather(place))
        who = ledger.who(ledger.invite(1)[0][1])
        assert who is not None
        for given in ledger.next(who, 3):
            choices = {name: "tie_good" if name == "quality" else side_of(ledger, given, "good") for name in questions}
            payload = {"choices": choices}
            ledger.record(who, Answer(f"the-key-{start}-{given.id}", given.id, "vote", payload, 1500, 1400, ""))
        assert standing(ledger)["all"]["votes"] == 3 + start
        place_, out = str(tmp_path / "votes.db"), tmp_path / f"pairs-{start}.jsonl"
        assert main(["feedback", "export", place_, "--out", str(out)]) == 0
        assert main(["feedback", "report", place_, "--out", str(tmp_path / "page.html")]) == 0
        found = [json.loads(line) for line in out.read_text().splitlines()]
        asked = [tuple(row["dims"]) for row in found]
        assert asked == [("alignment", "quality")] * 3 + [("overall",)] * start
        assert all(row[f"source_{row['choice']}"] == "good" for row in found)
        assert all(row["dims"]["quality"]["ties_good"] == 1 for row in found[:3])
    parquet = tmp_path / "pairs.parquet"
    pytest.importorskip("pyarrow")
    assert main(["feedback", "export", place_, "--out", str(parquet)]) == 0
    again, once = read_preferences(parquet)[0], read_preferences(out)[0]
    assert [(each.votes, each.worth, each.people) for each in again] == [
        (each.votes, each.worth, each.people) for each in once
    ]


def test_a_table_has_the_columns_of_all_its_rows(tmp_path: Path) -> None:
    """Pairs and then rankings in one ledger, as Arrow would have them by the first row alone."""
    pytest.importorskip("pyarrow")
    place = two_folders(tmp_path / "set", 2)
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    who = None
    for kind, payload in (("pair", {"choices": {"overall": "left"}}), ("rank", {"order": [1, 0]})):
        ledger.add(*gather(place, kind))
        who = who or ledger.who(ledger.invite(1)[0][1])
        assert who is not None
        while given := ledger.next(who, 1):
            kept = payload if ledger.board.tasks[given[0].task].kind == kind else {"order": [0, 1]}
            ledger.record(who, Answer(f"the-key-{given[0].id}", given[0].id, "vote", kept, 1500, 1400, ""))
    out = tmp_path / "all.parquet"
    exported(ledger, out)
    assert sorted(len(each.votes) for each in read_preferences(out)[0]) == [0, 0, 1, 1]


def test_ratings_and_rankings_are_settled_exported_and_read(tmp_path: Path) -> None:
    """Two people rate six pictures, each picture by one of them; one person ranks those of each prompt."""
    place = two_folders(tmp_path / "set", 3)
    ledger = Ledger(f"sqlite:///{tmp_path / 'rated.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*gather(place, "rate"))
    count = 0
    for _, token in ledger.invite(2):
        who = ledger.who(token)
        assert who is not None
        while (given := ledger.next(who, 1)) and count < 6:
            item = ledger.board.items[ledger.board.tasks[given[0].task].items[0]]
            payload = {"ratings": {"overall": 5 if item.source == "good" else 2}}
            ledger.record(who, Answer(f"the-key-{given[0].id}", given[0].id, "vote", payload, 1500, 1400, ""))
            count += 1
    assert count == 6 and not given  # nobody is asked what had its answer
    assert {name: each["votes"] for name, each in standing(ledger)["annotators"].items()} == {"annotator-1": 6}
    exported(ledger, tmp_path / "rated.jsonl")
    for each in read_preferences(tmp_path / "rated.jsonl")[0]:
        [picture], [worth] = each.pictures, each.worth
        assert isinstance(picture, Path) and worth == (1.0 if picture.resolve().parent.name == "good" else 0.25)
    assert main(["feedback", "report", str(tmp_path / "rated.jsonl"), "--out", str(tmp_path / "rated.html")]) == 0
    means = re.findall(r">(good|bad)</t[hd]>\s*<td[^>]*>([0-9.]+)", (tmp_path / "rated.html").read_text())
    assert {name: float(value) for name, value in means} == {"good": 5.0, "bad": 2.0}
    assert {row["label"] for row in exported(ledger, tmp_path / "kto.jsonl", "--layout", "kto")} == {True, False}
    ranked = Ledger(f"sqlite:///{tmp_path / 'ranked.db'}", Asking(gold=0.0, repeat=0.0))
    ranked.add(*gather(place, "rank"))
    [(_, token)] = ranked.invite(1)
    who = ranked.who(token)
    assert who is not None
    [given_one] = ranked.next(who, 1)
    items = ranked.board.tasks[given_one.task].items
    shown = [ranked.board.items[items[i]].source for i in given_one.order]
    payload = {"order": sorted(range(2), key=lambda i: shown[i] != "bad")}
    ranked.record(who, Answer("the-key-rank", given_one.id, "vote", payload, 1500, 1400, ""))
    [row] = exported(ranked, tmp_path / "ranked.jsonl")
    assert row["sources"] == ["bad", "good"] and row["rank"] == [1, 2]
    [each] = read_preferences(tmp_path / "ranked.jsonl")[0]
    assert each.worth == (1.0, 0.0) and "bad" in str(each.pictures[0])


def test_reports_and_the_pace_are_told(tmp_path: Path) -> None:
    now = [0.0]
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0), clock=lambda: now[0])
    ledger.add(*gather(two_folders(tmp_path / "set", 5)))
    [(_, token)] = ledger.invite(1)
    who = ledger.who(token)
    assert who is not None
    for at in (0.0, 1000.0, 4000.0):
        now[0] = at
        ledger.record(who, vote(ledger.next(who, 1)[0], "left"))
    [given] = ledger.next(who, 1)
    ledger.record(who, Answer("the-key-flag", given.id, "flag", {"text": "a face"}, 10, 10, ""))
    found = standing(ledger)
    assert found["last_hour"] == 2 and [each["text"] for each in found["reported"]] == ["a face"]
    assert len(found["reported"][0]["media"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["votes.db"], "--out"),
        (["nowhere.db", "--out", "x.jsonl"], "no such file"),
        (["votes.db", "--out", "x.txt"], ".jsonl or .parquet"),
        (["votes.db", "--out", "x.jsonl"], "nothing was said"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    ledger_of(tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    assert main(["feedback", "export", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
